"""Whole runs: from configuration to results, stages included."""
