"""The REST API of the platform, and the page in front of it."""
