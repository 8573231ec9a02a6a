"""Runs followed by W&B, MLflow and Trackio."""
