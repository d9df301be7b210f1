"""A folder with a manifest of what each of its files must be.

The manifest is written last, so a folder that has one was whole; and what a disk has done to it
since is found out before anybody goes on from it.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import msgspec
from msgspec import Struct

MANIFEST = "manifest.json"
SEGMENT = ".segment"
"""A file whose name ends so never changes once it is written: checkpoints share it."""


class Sum(Struct, frozen=True, forbid_unknown_fields=True):
    """What a file must be."""

    size: int
    blake2b: str


NOTHING: Mapping[str, Sum] = MappingProxyType({})


def seal(folder: Path, known: Mapping[str, Sum] = NOTHING, *, lasting: bool = True) -> list[str]:
    """Write the manifest of *folder*, and `lasting` all of its files to the disk.

    What is *known* is neither read nor flushed: its sum is that of when it was written, for one
    made now might bless a corruption. Return the names of all the others.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = [path.relative_to(folder).as_posix() for path in paths]
    listed = {name: known.get(name) or _sum(folder / name, lasting=lasting) for name in names}
    with (folder / MANIFEST).open("xb") as file:  # an agent's own would be lost
        file.write(msgspec.json.encode(listed))
        file.flush()
        if lasting:
            os.fsync(file.fileno())
    return [name for name in names if name not in known]


def read(manifest: bytes) -> dict[str, Sum]:
    """Return what *manifest* lists. Raises `ValueError`."""
    listed = msgspec.json.decode(manifest, type=dict[str, Sum])
    for path in map(PurePosixPath, listed):
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{path} is outside")
    return listed


def verify(folder: Path) -> str | None:
    """Say what is wrong with *folder*, or None if all that its manifest lists is as it was."""
    try:
        listed = read((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError) as error:
        return f"{MANIFEST} cannot be read ({why(error)})"
    faults = (_fault(folder, name, said) for name, said in listed.items())
    return next((fault for fault in faults if fault is not None), None)


def why(error: OSError | ValueError) -> str:
    return str(error.strerror if isinstance(error, OSError) else error)


def _fault(folder: Path, name: str, said: Sum) -> str | None:
    try:
        there = _sum(folder / name)
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read ({why(error)})"
    if there.size != said.size:
        return f"{name} has {there.size} bytes where {said.size} were written"
    return None if there == said else f"{name} has changed: its checksum is another"


def _sum(path: Path, *, lasting: bool = False) -> Sum:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        if lasting:
            os.fsync(file.fileno())
        return Sum(size=file.tell(), blake2b=digest.hexdigest())
