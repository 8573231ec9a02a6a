"""Weights learnt from procedural people alone, free for everyone."""
