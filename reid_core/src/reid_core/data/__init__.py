"""Data: samples and their fields, reading, geometry, sampling, labels."""
