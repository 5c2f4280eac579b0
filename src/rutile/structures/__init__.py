"""Floor 1: the batch of structures, files, geometry."""
