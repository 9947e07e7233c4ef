"""Print the oldest versions that setup.cfg allows, as constraints for pip: `everything`, or the names that are given.

python .ci/oldest.py everything > oldest.txt && pip install -e ".[test]" -c oldest.txt
"""

from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path

BOUND = re.compile(r"^\s*([\w-]+)(?:\[\w+\])?\s*>=\s*([\d.]+)", re.MULTILINE)


def oldest(text: str) -> dict[str, str]:
    """The lower bound of every distribution that install_requires and the extra `test` name."""
    config = configparser.ConfigParser()  # extras name others
    config.read_string(text)
    required = config["options"]["install_requires"] + config["options.extras_require"]["test"]
    return dict(BOUND.findall(required))


if __name__ == "__main__":
    bounds = oldest((Path(__file__).parents[1] / "setup.cfg").read_text())
    for name in bounds if sys.argv[1:] == ["everything"] else sys.argv[1:]:
        print(f"{name}=={bounds[name]}")
