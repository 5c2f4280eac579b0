"""Active learning: what a committee disagrees about, and which of it is worth a label."""
