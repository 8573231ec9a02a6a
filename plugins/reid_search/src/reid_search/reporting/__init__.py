"""One page about one or more runs, complete in itself."""
