"""One file for each program: the text of its input, and what its output says."""
