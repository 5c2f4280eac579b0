"""Scripts that run in processes of their own, maybe in other Pythons: they import nothing of rutile at the top."""
