"""Tables of people: read in all their forms, their columns understood, turned to numbers and back."""

from cnf.data.reading import Reading
from cnf.tables.codec import to_frame, to_numbers
from cnf.tables.kinds import schema_of
from cnf.tables.prediction import Prediction
from cnf.tables.reading import read
from cnf.tables.schema import KINDS, Column, Schema, parse_kind
from cnf.tables.table_flow import TableFlow

__all__ = [
    "KINDS",
    "Column",
    "Prediction",
    "Reading",
    "Schema",
    "TableFlow",
    "parse_kind",
    "read",
    "schema_of",
    "to_frame",
    "to_numbers",
]
