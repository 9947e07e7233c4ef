"""Tables as people write them, read with the types that their cells have."""

from cnf.data.reading.files import ending_of, frame_of_array, is_table, read_file
from cnf.data.reading.result import Reading, filled

__all__ = ["Reading", "ending_of", "filled", "frame_of_array", "is_table", "read_file"]
