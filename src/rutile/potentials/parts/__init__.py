"""Mathematics that several potentials share."""
