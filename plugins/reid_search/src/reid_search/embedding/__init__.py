"""Pictures, crops and videos into a gallery, on one process or many."""
