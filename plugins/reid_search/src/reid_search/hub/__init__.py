"""Models on a hub: fetched where an address is named, uploaded where that is asked for."""
