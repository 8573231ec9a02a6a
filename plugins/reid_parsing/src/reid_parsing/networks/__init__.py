"""Parsing networks: light for CPUs, DANet, and SCHP's CE2P."""
