"""Floor 0: units, elements, errors, settings, seeds, reporting. Imports no torch."""
