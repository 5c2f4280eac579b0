"""Floor 4: fit potentials to labelled frames."""
