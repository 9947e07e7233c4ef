"""Checks of a table's columns: whether a density exists, and whether its likelihood means something.

The columns are judged at the precision of the flow, from a bounded number of rows, and reported once: in one error or
one warning.
"""

from cnf.data.columns.check import check_rows

__all__ = ["check_rows"]
