"""Whether this process is one of several that train together, and which.

A variable such as `RANK` alone means nothing, since clusters and earlier programs leave such variables behind: a run
that mistook itself for a helper would write nothing. So the variables of `torchrun` count only if all are there, and a
process that the engine started is known by `MARK`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

TORCHRUN = ("LOCAL_RANK", "RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
COUNTS = ("LOCAL_WORLD_SIZE", "WORLD_SIZE")
NUMBERS = (*COUNTS, "LOCAL_RANK", "RANK", "NODE_RANK")
MARK = "CNF_LAUNCHED"  # set by a process that starts helpers, which inherit it


@dataclass(frozen=True)
class Launch:
    """The processes of a run.

    Args:
        devices: Processes on this machine.
        nodes: Machines.
        rank: Which of all processes this is; 0 writes the files.
    """

    devices: int = 1
    nodes: int = 1
    rank: int = 0

    @property
    def helper(self) -> bool:
        """Whether another process writes the files and prints."""
        return self.rank > 0

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.devices * self.nodes

    @property
    def several(self) -> bool:
        """Whether there is more than one process."""
        return self.size > 1


def find_launch(devices: int = 1, nodes: int = 1, environment: Mapping[str, str] = os.environ) -> Launch:
    """The launch that this process is part of.

    Args:
        devices: Processes that are asked for on this machine, where `torchrun` does not say.
        nodes: Machines that are asked for, likewise.
        environment: Variables of the process.

    Raises:
        ValueError: Variables of a launch that contradict each other, are no whole numbers, or lack the others.

    Example:
        >>> find_launch(environment={"RANK": "1"}).helper
        False
    """
    numbers = {name: _number(name, environment[name]) for name in NUMBERS if name in environment}
    if all(name in environment for name in TORCHRUN):
        return _of_torchrun(numbers)
    if devices * nodes == 1:
        return Launch()
    if numbers.get("LOCAL_RANK", 0) and MARK not in environment:
        raise ValueError(
            f"LOCAL_RANK={numbers['LOCAL_RANK']} is set, but no launcher started this process: "
            "unset it, or start the script with torchrun"
        )
    if nodes > 1 and not {"MASTER_ADDR", "NODE_RANK"} <= set(environment):
        raise ValueError(f"num_nodes={nodes} needs a launcher: start the script with torchrun on each machine")
    return Launch(devices, nodes, numbers.get("NODE_RANK", 0) * devices + numbers.get("LOCAL_RANK", 0))


def _of_torchrun(numbers: Mapping[str, int]) -> Launch:
    local, world = numbers["LOCAL_WORLD_SIZE"], numbers["WORLD_SIZE"]
    if world % local or numbers["RANK"] >= world or numbers["LOCAL_RANK"] >= local:
        given = ", ".join(f"{name}={numbers[name]}" for name in NUMBERS if name in numbers)
        raise ValueError(f"the variables of the launcher contradict each other: {given}; start as many on each machine")
    return Launch(local, world // local, numbers["RANK"])


def _number(name: str, text: str) -> int:
    least = 1 if name in COUNTS else 0
    if not text.strip().isdecimal() or int(text) < least:
        raise ValueError(
            f"the environment variable {name} must be a whole number of at least {least}, got {text!r}: "
            "unset it, or start the script with torchrun"
        )
    return int(text)
