"""The data doctor: what a user's copy of a data set holds, what is wrong with it, and a picture."""
