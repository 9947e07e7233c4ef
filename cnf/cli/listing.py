"""`cnf list`: what there is."""

from __future__ import annotations

from dataclasses import dataclass

from cnf.data.benchmarks import MAF_SETS
from cnf.data.sources import IMAGES
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
            options = model.options.values()
            plain = [option for option in options if isinstance(option.default, (int, float, str, tuple, type(None)))]
            print(f"  {'':18} {', '.join(f'{option.name}={option.default!r}' for option in plain)}")
        print("\nData:")
        print(f"  toys         {', '.join(TOYS)}")
        print(f"  images       {', '.join(IMAGES)}")
        print(f"  benchmarks   {', '.join(MAF_SETS)} (files of your own download: --data-root)")
        print("  tables       any .csv (with a header or without) or .npy of your own")
