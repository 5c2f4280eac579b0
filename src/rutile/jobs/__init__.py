"""The queue: jobs in a table, each at work in a folder and a process of its own, which outlive the server."""
