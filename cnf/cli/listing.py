"""`cnf list`: models and data sets."""

from __future__ import annotations

from dataclasses import dataclass

from cnf.cli.options import typed_options
from cnf.data.benchmarks import MAF_SETS
from cnf.data.image_sets import IMAGES
from cnf.data.toys import TOYS
from cnf.models import MODELS


@dataclass
class List:
    """List the models with their options, and the built-in data sets."""

    def __call__(self) -> None:
        print("Models (cnf fit DATA --model NAME --option KEY=VALUE):")
        for name, model in MODELS.items():
            print(f"  {name:18} {model.summary}")
            print(f"  {'':18} {model.reference}")
            print(f"  {'':18} {', '.join(f'{option}={value!r}' for option, value in typed_options(model).items())}")
        print("\nData:")
        print(f"  toys         {', '.join(TOYS)}")
        print(f"  images       {', '.join(IMAGES)}")
        print(f"  benchmarks   {', '.join(MAF_SETS)} (download the files yourself, see --data-root)")
        print("  tables       any file of your own: .csv, .tsv, .txt, .parquet, .feather, .xlsx, .npy")
        print("  pictures     any folder of PNG or JPEG files of one size, or a .npy file of bytes (N, C, H, W)")
