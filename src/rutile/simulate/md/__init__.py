"""Molecular dynamics: one loop, with thermostats, barostats, stop rules and trajectories around it."""
