"""Files that are written completely or not at all, and whose checksums are compared when they are read."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from cnf.errors import CheckpointError

LEFTOVER = re.compile(r"\.(?P<name>.+\.(?:safetensors|json|csv|npy|png|gif|html))\.(?P<process>\d+)")
CHECKSUM = re.compile(rb'"sha256":"([0-9a-f]{64})"')
UNKNOWN = "0" * 64  # stands in a file while its checksum is computed


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file completely or not at all."""
    write_pieces(path, [data])


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file piece by piece, completely or not at all: under a temporary name, which is then changed.

    Args:
        path: The file; a missing folder is made.
        pieces: Its content.

    Raises:
        OSError: The file cannot be written; the message names it and says what is there now.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "new" / "text.txt"
        ...     write_pieces(path, [b"one ", b"two"])
        ...     print(path.read_text())
        one two
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, path.name)
        with open(temporary, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _forget(temporary)
        left = "the one written before is whole" if path.is_file() else "nothing was written"
        reason = f"{error.strerror or error}: {path.name} could not be written, {left}"
        raise OSError(error.errno or 0, reason, str(path)) from error
    except BaseException:
        _forget(temporary)
        raise


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the first error is the one to report
        return


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove temporary files of processes that were killed while they wrote: all of them, or those of one file."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        found = LEFTOVER.fullmatch(path.name)
        if found and name in (None, found["name"]) and not _runs(int(found["process"])):
            _forget(path)


def _runs(process: int) -> bool:
    """Whether such a process exists; true where this cannot be found out."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object completely or not at all; numbers that are not finite become null."""
    write_bytes(path, (json.dumps(_finite(value), indent=2, allow_nan=False) + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        CheckpointError: There is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no {path.name} in {path.parent}: is it a folder that cnf wrote?") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: The file is missing or damaged, or holds something else.
    """
    try:
        value = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged, it is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    return value


def read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """Tensors by name from a safetensors file.

    Raises:
        CheckpointError: The file is missing or damaged, or has another checksum.
    """
    data = read_bytes(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(f"{path} is not the file that model.json was written with: truncated, or of another run")
    return _tensors(path, data)


def _tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        return load_tensors(data)
    except Exception as error:  # SafetensorError, and what it raises for kinds of numbers that torch does not have
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {error}") from error


def write_state(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts as one safetensors file with a checksum, completely or not at all."""
    ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = dump_tensors(ready, metadata={"facts": json.dumps(facts), "sha256": UNKNOWN})
    blank = f'"sha256":"{UNKNOWN}"'.encode()
    write_bytes(path, data.replace(blank, blank.replace(UNKNOWN.encode(), _digest(data)), 1))


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and facts that `write_state` wrote.

    Raises:
        CheckpointError: The file is missing or damaged, or was written by something else.
    """
    data = read_bytes(path)
    end = 8 + int.from_bytes(data[:8], "little")
    found = CHECKSUM.search(data, 8, min(end, len(data)))
    if found is None:
        raise CheckpointError(
            f"{path} has no checksum: it is damaged, not a checkpoint of a training run, or a checkpoint of cnf 0.1; "
            "start the run again in another folder"
        )
    if _digest(data[: found.start(1)] + UNKNOWN.encode() + data[found.end(1) :]) != found[1]:
        raise CheckpointError(f"{path} is damaged, its content does not have its checksum: start again, or restore it")
    tensors = _tensors(path, data)
    try:
        facts = json.loads(json.loads(data[8:end])["__metadata__"]["facts"])
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of a training run: its facts are not JSON") from error
    if not isinstance(facts, dict):
        raise CheckpointError(f"{path} is not a checkpoint of a training run: its facts are not a JSON object")
    return tensors, facts


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()
