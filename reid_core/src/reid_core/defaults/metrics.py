"""``metrics.jsonl``: one JSON object per line, each step and evaluation once."""

METRICS = "metrics.jsonl"
"""Its name in a run's folder."""
