"""From raw rows to arrays on disk."""
