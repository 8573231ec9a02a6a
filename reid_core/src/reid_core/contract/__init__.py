"""What plugins and the core owe each other: hooks, what plugins declare, what they are shown."""
