"""Contract kits and hypothesis strategies; only tests import this room."""
