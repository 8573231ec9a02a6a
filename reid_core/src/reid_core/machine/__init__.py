"""Where a run computes: devices, ranks, randomness. Knows no plugin."""
