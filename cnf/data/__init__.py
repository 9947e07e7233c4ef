"""Data sets: toys and energies with exact densities, tables, images, benchmarks, and rows of any kind of data.

`cnf.fit` takes tensors, arrays, memory maps and map-style datasets of torch, each with or without context. A data set
of one's own is a `torch.utils.data.Dataset` whose items are `x` or `(x, context)`; they are read when they are needed.
A distribution of one's own is a `Toy`.

Example:
    >>> import torch, cnf
    >>> class Pendulum(torch.utils.data.Dataset):
    ...     def __len__(self):
    ...         return 60
    ...     def __getitem__(self, row):
    ...         noise = torch.randn(2, generator=torch.Generator().manual_seed(row))
    ...         length = torch.tensor([1.0 + row % 5])  # the condition
    ...         return length.sqrt() * noise, length
    >>> flow = cnf.build("maf", 2, context_dim=1, layers=1, hidden=8)
    >>> result = cnf.fit(flow, Pendulum(), config=cnf.FitConfig(steps=3, progress=False))
    >>> result.steps
    3
    >>> flow.sample(3, torch.tensor([2.0])).shape
    torch.Size([3, 2])
"""

from cnf.data.benchmarks import MAF_SETS, MafSplits, load_maf
from cnf.data.columns import check_rows
from cnf.data.energies import ENERGIES, Energy, energy
from cnf.data.folders import data_root
from cnf.data.image_files import load_cifar10, load_image_array, load_pictures, reduce_bits
from cnf.data.image_sets import IMAGES, Flipped, ImageSet, load_images, one_hot
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
    "IMAGES",
    "MAF_SETS",
    "TOYS",
    "DataError",
    "DataWarning",
    "Dequantized",
    "Energy",
    "Flipped",
    "ImageSet",
    "MafSplits",
    "Rows",
    "Source",
    "Split",
    "Table",
    "Toy",
    "check_rows",
    "data_root",
    "dequantize",
    "energy",
    "load_cifar10",
    "load_digits",
    "load_image_array",
    "load_images",
    "load_maf",
    "load_mnist",
    "load_pictures",
    "load_table",
    "one_hot",
    "open_source",
    "read_idx",
    "reduce_bits",
    "select",
    "split",
    "toy",
]
