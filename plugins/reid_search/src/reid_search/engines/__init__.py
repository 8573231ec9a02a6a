"""Galleries in the form that other engines load, or answered from by one of them."""
