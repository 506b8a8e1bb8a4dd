"""From raw columns to ids and numbers."""
