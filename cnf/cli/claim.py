"""The folder of a run: locked before anything is written, and left as it was if the run is refused.

The process that holds the lock of the file `.lock` owns the folder. The operating system releases the lock when a
process ends, however it ends, so that no folder stays locked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cnf.cli.usage import UsageError, note
from cnf.errors import CnfError
from cnf.files import LEFTOVER, remove_leftovers

LOCK = ".lock"
CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.json"
DESCRIPTION = ("data.json", "trained_on.npy")  # written first, before there is a checkpoint
# all that a run may leave before its numbers
UNFINISHED = {*DESCRIPTION, "model.json", "model.safetensors", "table.json", "schema.json", "log.csv"}
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of file systems that know none


@contextmanager
def claimed(folder: Path, *, resume: bool) -> Iterator[None]:
    """Lock a folder, which is made if it is missing; a second process gets an error and changes nothing.

    Args:
        folder: The folder.
        resume: Whether a run in it is to be continued.

    Raises:
        UsageError: Another run holds the folder, or its content does not allow the command.
    """
    made = _missing(folder)
    lock = _lock(folder)
    try:
        check_folder(folder, resume=resume)
        remove_leftovers(folder)
        with _undone_if_in_vain(folder, resume):
            yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
        os.close(lock)
        for path in made:  # only empty ones are removed
            with suppress(OSError):
                path.rmdir()


def check_folder(folder: Path, *, resume: bool) -> None:
    """Check whether the content of a folder allows the command.

    Raises:
        UsageError: It does not; the message says what to do.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out must be a folder, {folder} is a file: give another --out")
    if resume:
        _check_resumable(folder)
    elif (folder / CHECKPOINT).exists():
        raise UsageError(f"{folder} holds a run already: give another --out, or --resume to continue it")
    elif (folder / METRICS).exists():
        raise UsageError(f"{folder} holds a finished run: give another --out, or cnf plot {folder} for its pictures")
    elif folder.exists() and _strangers(folder):
        raise UsageError(f"{folder} exists and is not empty: give another --out")


def _check_resumable(folder: Path) -> None:
    if (folder / CHECKPOINT).exists():
        return
    if (folder / METRICS).exists():
        raise UsageError(f"there is no run to resume in {folder}, it is finished: give another --out, or use cnf score")
    raise UsageError(f"there is no run to resume in {folder}, it has no checkpoint yet: leave --resume out")


def _strangers(folder: Path) -> set[str]:
    """Names of files that do not belong to a run."""
    names = {path.name for path in folder.iterdir()}
    others = {name for name in names if name != LOCK and not LEFTOVER.fullmatch(name)}
    return others - UNFINISHED if "data.json" in names else others


@contextmanager
def _undone_if_in_vain(folder: Path, resume: bool) -> Iterator[None]:
    """Remove the files of a run that was refused or ended before its first checkpoint.

    A run that fails before the first validation counts as refused, although its start was saved: the command has to
    change.
    """
    try:
        yield
    except BaseException as error:
        worth = ("log.csv", "model.json") if isinstance(error, (ValueError, CnfError)) else (CHECKPOINT, "model.json")
        if not resume and not any((folder / name).exists() for name in worth):
            for name in (*DESCRIPTION, CHECKPOINT):
                (folder / name).unlink(missing_ok=True)
        raise


def _missing(folder: Path) -> list[Path]:
    """The folders that have to be made, the innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _lock(folder: Path) -> int:
    """An open file whose lock this process holds."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # another run was refused and removed the folder in between
            continue
        if not _is_ours(folder, lock):
            owner = os.read(lock, 20).decode(errors="replace").strip()
            os.close(lock)
            raise UsageError(
                f"another run is using {folder}" + (f" (process {owner})" if owner else "") + ": "
                "give another --out, or wait until it ends"
            )
        if _is_in_place(folder / LOCK, lock):
            os.truncate(lock, 0)
            os.write(lock, str(os.getpid()).encode())
            return lock
        os.close(lock)  # the run before ended and removed the file after we had opened it


def _is_ours(folder: Path, lock: int) -> bool:
    try:
        _lock_file(lock)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            return False
        note(f"the file system of {folder} has no locks: do not start another run in it")
    return True


def _is_in_place(path: Path, lock: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(lock))
    except FileNotFoundError:
        return False


if os.name == "posix":
    import fcntl

    def _lock_file(lock: int) -> None:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

else:
    import msvcrt

    def _lock_file(lock: int) -> None:
        os.lseek(lock, 1 << 20, os.SEEK_SET)  # a byte after the text, which others may read
        msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        os.lseek(lock, 0, os.SEEK_SET)
