"""Floor 2: neighbours and graphs."""
