"""Contract kits, hypothesis strategies and simulated workers; only tests and benchmarks import this room."""
