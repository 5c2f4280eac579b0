"""How the tables came to be what they are; applied in order when the platform starts."""
