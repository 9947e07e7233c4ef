"""Tables as people write them, read with the types that their cells have."""

from cnf.data.reading.files import ending_of, frame_of_array, is_table, read_file
from cnf.data.reading.pieces import PIECE, Pieces, open_pieces
from cnf.data.reading.result import Reading, Style, filled

__all__ = [
    "PIECE", "Pieces", "Reading", "Style", "ending_of", "filled", "frame_of_array", "is_table", "open_pieces",
    "read_file",
]  # fmt: skip
