"""How children are made of parents; one operator in each file, and their catalogue."""
