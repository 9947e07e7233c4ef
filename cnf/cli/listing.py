"""`cnf list`: what there is."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from cnf.data.benchmarks import MAF_SETS
from cnf.data.sources import IMAGES
from cnf.data.toy import TOYS
from cnf.models import MODELS


@dataclass
class List:
    """List the models with their options, and the built-in data sets."""

    def __call__(self) -> None:
        print("Models (cnf fit DATA --model NAME --option KEY=VALUE):")
        for name, builder in MODELS.items():
            print(f"  {name:18} {(inspect.getdoc(builder) or '').splitlines()[0]}")
            options = list(inspect.signature(builder).parameters.values())[2:]
            plain = [option for option in options if isinstance(option.default, (int, float, str, tuple, type(None)))]
            print(f"  {'':18} {', '.join(f'{option.name}={option.default!r}' for option in plain)}")
        print("\nData:")
        print(f"  toys         {', '.join(TOYS)}")
        print(f"  images       {', '.join(IMAGES)}")
        print(f"  benchmarks   {', '.join(MAF_SETS)} (files of your own download: --data-root)")
        print("  tables       any .csv (with a header or without) or .npy of your own")
