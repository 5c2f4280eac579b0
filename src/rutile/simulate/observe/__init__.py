"""What trajectories say: structure, motion, transport."""
