"""Floor 2: makes structures that are worth labelling. Imports no torch."""
