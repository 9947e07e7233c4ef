"""Data sets: numbers in, tensors out. What has a log-determinant is a Transform, in `cnf.discrete`."""

from cnf.data.benchmarks import MAF_SETS, MafSplits, load_maf
from cnf.data.energies import ENERGIES, Energy, energy
from cnf.data.folders import data_root
from cnf.data.images import Dequantized, dequantize, load_digits, load_mnist, read_idx
from cnf.data.rows import Rows
from cnf.data.sources import Source, open_source
from cnf.data.splits import Split, split
from cnf.data.table import Table, select
from cnf.data.tabular import load_table
from cnf.data.toys import TOYS, Toy, toy
from cnf.errors import DataError, DataWarning

__all__ = [
    "ENERGIES",
    "MAF_SETS",
    "TOYS",
    "DataError",
    "DataWarning",
    "Dequantized",
    "Energy",
    "MafSplits",
    "Rows",
    "Source",
    "Split",
    "Table",
    "Toy",
    "data_root",
    "dequantize",
    "energy",
    "load_digits",
    "load_maf",
    "load_mnist",
    "load_table",
    "open_source",
    "read_idx",
    "select",
    "split",
    "toy",
]
