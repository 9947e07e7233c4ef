"""Discrete transforms, one family a file."""
