"""Evaluation: protocols as data, exact retrieval, results and ranked-list pictures."""
