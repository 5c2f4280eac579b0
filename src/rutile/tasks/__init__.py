"""Floor 6: one file for each capability."""
