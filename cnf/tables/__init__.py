"""Tables of people: read in all their forms, with what was understood of them."""

from cnf.tables.reading import Reading, read

__all__ = ["Reading", "read"]
