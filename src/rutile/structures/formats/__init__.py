"""Readers and writers, one file for each file format."""
