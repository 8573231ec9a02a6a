"""``python -m reid_core``: the command line, for ``torchrun -m reid_core run ...``."""

from reid_core.cli import main

main()
