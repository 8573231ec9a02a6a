"""Which of several models is better, by how much, how surely, and for whom."""
