"""Assemble a run from its configuration: everything is checked before the first step."""
