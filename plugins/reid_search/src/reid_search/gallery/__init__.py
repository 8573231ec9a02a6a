"""The folder of vectors and items, and the search in it."""
