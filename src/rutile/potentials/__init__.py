"""Floor 3: the models, and evaluate.py, the only file that differentiates."""
