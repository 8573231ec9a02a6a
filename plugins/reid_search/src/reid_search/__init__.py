"""What follows a run: embed, search, calibrate, compare, report.

One room per job, and no room imports a command:

- `models`: MODEL, as every command takes it;
- `gallery/`: the folder of vectors and items, and the search in it;
- `embedding/`: pictures, crops and videos into a gallery, on one process or many;
- `engines/`: galleries in the form that other engines load or answer from;
- `calibration/`: which similarity shows the same person;
- `sweeping/`: runs that differ in a few settings, here or on a cluster;
- `comparing/`, `reporting/`, `hub/`, `hosts/`: what one does with finished runs;
- `commands/`: one module per command, named in the entry points ``reid.commands``.
"""
