"""What the columns of a table have to be for a density to exist, and what they should be for it to mean something.

All is judged at the precision of the flow, from a bounded number of rows, and said once: one error or one warning.
"""

from cnf.data.columns.check import check_rows

__all__ = ["check_rows"]
