"""Evidence: declared studies, the rows that were measured, and what they show."""
