"""The engine: schedule, step, optimisers, state, randomness, and the run around them."""
