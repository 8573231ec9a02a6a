"""Plugins: finding them from metadata, typed hook calls, slots, and what they offer by name."""
