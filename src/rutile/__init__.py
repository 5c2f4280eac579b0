"""rutile: machine-learning interatomic potentials, from reference data to materials."""

__version__ = "0.1.0"
