"""Plugins: what one is, finding them from metadata, claims and conflicts, typed hook calls."""
