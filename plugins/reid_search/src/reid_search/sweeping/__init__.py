"""Runs that differ in a few settings, here or on a cluster, with their results side by side.

- `runs`: `sweep`, every combination with every seed;
- `engines`: who makes the runs: this process, Slurm through submitit, or Ray;
- `points`: what the runs of one combination found over their seeds, as numbers and as a plot.
"""
