"""The training loop: the assembled run, its steps, updates and checkpoints."""
