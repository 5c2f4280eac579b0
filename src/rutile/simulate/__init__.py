"""Floor 4: move atoms and derive properties."""
