"""Flows in other libraries: one file for each, which imports its library when it is used.

Each library is an extra of this package; where it is missing, the error names the extra.
"""

from cnf.interop import pyro, sbi, sklearn

__all__ = ["pyro", "sbi", "sklearn"]
