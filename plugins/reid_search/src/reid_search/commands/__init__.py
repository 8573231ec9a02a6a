"""One module per command, named in the entry points ``reid.commands``."""
