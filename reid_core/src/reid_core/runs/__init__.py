"""Whole runs: from configuration to results, stages and sweeps included."""
