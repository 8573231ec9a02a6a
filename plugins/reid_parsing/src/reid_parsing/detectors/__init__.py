"""Networks of others that find joints and silhouettes, from files that the user has."""
