"""What follows a run: embed, search, calibrate, compare, report."""
