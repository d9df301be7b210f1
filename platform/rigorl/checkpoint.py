"""Where a run stands, in folders that are there whole or not at all and outlive a loss of power.

A folder is written as a draft beside its place and moved there when all of it is on the disk.
Its manifest, written last, lists each file with its size and checksum, so that what a disk has
done to it since is found out before anybody goes on from it.

A file whose name ends in `.segment` never changes once it is written. The next checkpoint shares
it instead of writing it again, so that a checkpoint costs what is new and not what there is.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec
from msgspec import Struct

from rigorl import crash
from rigorl.errors import StorageError
from rigorl.tasks.world import Tally
from rigorl.trial import Report

KEPT = 2
"""Checkpoints that a trial keeps: the newest, and one to fall back to."""
MANIFEST, PLACE = "manifest.json", "place.msgpack"
SEGMENT = ".segment"
REFUSED = {"ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ESTALE"}
"""Errors that the storage is to blame for; any other is a bug of whoever writes."""


class Place(Struct):
    """Where a run stands. Everything here is saved with it."""

    stage: int = 0
    step: int = 0
    update: int = 0
    switched_at: int = 0
    """Update at which the running stage began."""
    values: dict[int, float] = {}
    """What the trial was worth at each rung."""
    tallies: dict[str, Tally] = {}
    """Episodes learned from so far, by task."""
    unsaved: list[Report] = []
    """Reports since the checkpoint before this one: the driver may not have them yet."""
    exam_tallies: dict[str, Tally] = {}
    """Episodes of the exams told so far, by task."""
    pending: list[Report] = []
    """Reports, without returns, whose exams were under way."""

    def tally(self, task: str) -> Tally:
        """Return the tally of *task*, at first an empty one."""
        return self.tallies.setdefault(task, Tally())

    def exam_tally(self, task: str) -> Tally:
        """Return the tally of the exams on *task*, at first an empty one."""
        return self.exam_tallies.setdefault(task, Tally())


class Found(NamedTuple):
    """A place to go on from; without a folder, the beginning. `note` says what was corrupt."""

    place: Place
    folder: Path | None = None
    note: str = ""


class Sum(Struct, frozen=True, forbid_unknown_fields=True):
    """What a file must be."""

    size: int
    blake2b: str


def newest(of: Path) -> Found:
    """Return the newest checkpoint in *of* that is as it was written."""
    corrupt: list[str] = []
    for folder in sorted(of.glob("checkpoint-*"), reverse=True):
        found = _read(folder)
        if isinstance(found, Place):
            return Found(found, folder, _note(corrupt, f"went on from {folder.name}"))
        corrupt.append(f"{folder.name} is corrupt: {found}")
    return Found(Place(), None, _note(corrupt, "began anew"))


def _read(folder: Path) -> Place | str:
    """Return the place in *folder*, or what is wrong with it."""
    fault = verify(folder)
    if fault is not None:
        return fault
    try:
        return msgspec.msgpack.decode((folder / PLACE).read_bytes(), type=Place)
    except (OSError, ValueError) as error:
        return f"{PLACE} cannot be read ({_why(error)})"


def _note(corrupt: list[str], then: str) -> str:
    return "; ".join([*corrupt, then]) if corrupt else ""


def write(
    of: Path, place: Place, save: Callable[[Path], None] | None, since: Path | None = None
) -> Path:
    """Write *place* and what *save* writes into *of*; only when it stands do old ones go.

    *since* is the checkpoint that the run went on from, or wrote last: *save* finds its segments
    in the draft, and may remove them but not write to them. Not the newest one there is, for
    that may be corrupt. Return what was written.
    """
    name = f"checkpoint-{place.stage:04d}-{place.step:012d}"
    with appearing(of / name, None if save is None else since) as draft:
        if save is not None:
            save(draft)
        (draft / PLACE).write_bytes(msgspec.msgpack.encode(place))
    there = sorted(of.glob("checkpoint-*"))
    at = there.index(of / name)
    for old in there[: max(0, at + 1 - KEPT)] + there[at + 1 :]:  # what is ahead was corrupt
        shutil.rmtree(old, ignore_errors=True)
    return of / name


@contextmanager
def appearing(folder: Path, since: Path | None = None) -> Iterator[Path]:
    """Lend a draft to write into; without an error it takes the place of *folder* in one move.

    The segments of *since* are in it already. Raises `StorageError` when the storage is full,
    or refuses.
    """
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        _make(folder.parent)
        for left in folder.parent.glob(".*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        draft.mkdir()
        shared = {} if since is None else _share(since, draft)
        yield draft
        crash.point("checkpoint.write")
        _seal(draft, shared)
        crash.point("checkpoint.before_rename")
        shutil.rmtree(folder, ignore_errors=True)
        draft.replace(folder)
        _flush(folder.parent)
        crash.point("checkpoint.after_rename")
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) not in REFUSED:
            raise
        raise StorageError(
            f"what a trial keeps must be written whole, but {folder}: {error.strerror}; make room "
            "there or choose another place with --home: the same command again goes on from the "
            "checkpoint before"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def verify(folder: Path) -> str | None:
    """Say what is wrong with *folder*, or None if all that its manifest lists is as it was."""
    try:
        manifest = (folder / MANIFEST).read_bytes()
        listed = msgspec.json.decode(manifest, type=dict[str, Sum])
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError) as error:
        return f"{MANIFEST} cannot be read ({_why(error)})"
    faults = (_fault(folder, name, said) for name, said in listed.items())
    return next((fault for fault in faults if fault is not None), None)


def _fault(folder: Path, name: str, said: Sum) -> str | None:
    try:
        there = _sum(folder / name)
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read ({_why(error)})"
    if there.size != said.size:
        return f"{name} has {there.size} bytes where {said.size} were written"
    return None if there == said else f"{name} has changed: its checksum is another"


def _share(since: Path, draft: Path) -> dict[str, Sum]:
    """Put the segments of *since* into *draft*. Return what they must be.

    Their sums are those of when they were written: one made now might bless a corruption.
    """
    try:
        listed = msgspec.json.decode((since / MANIFEST).read_bytes(), type=dict[str, Sum])
    except (OSError, ValueError):  # it was good once; without it all is written again
        return {}
    shared = {}
    for name, said in listed.items():
        if name.endswith(SEGMENT) and (since / name).is_file():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            _link(since / name, draft / name)
            shared[name] = said
    return shared


def _link(old: Path, new: Path) -> None:
    """Make *new* the file that *old* is, or a copy that lasts where a disk knows no links."""
    try:
        new.hardlink_to(old)
    except OSError:
        shutil.copyfile(old, new)
        with new.open("rb") as file:
            os.fsync(file.fileno())


def _seal(draft: Path, shared: Mapping[str, Sum] = MappingProxyType({})) -> None:
    """Write the manifest of *draft*, and all of it to the disk; what is *shared* lasts already."""
    paths = sorted(draft.rglob("*"))
    names = [path.relative_to(draft).as_posix() for path in paths if path.is_file()]
    listed = {name: shared.get(name) or _sum(draft / name, lasting=True) for name in names}
    with (draft / MANIFEST).open("xb") as file:  # an agent's own would be lost
        file.write(msgspec.json.encode(listed))
        file.flush()
        os.fsync(file.fileno())
    for folder in [path for path in paths if path.is_dir()] + [draft]:
        _flush(folder)


def _sum(path: Path, *, lasting: bool = False) -> Sum:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        if lasting:
            os.fsync(file.fileno())
        return Sum(size=file.tell(), blake2b=digest.hexdigest())


def _make(folder: Path) -> None:
    """Create *folder*, and those above it that are not there, to last."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _flush(folder.parent)


def _flush(folder: Path) -> None:
    """Write to the disk what *folder* lists; some file systems know no such thing."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(opened)


def _why(error: OSError | ValueError) -> str:
    return str(error.strerror if isinstance(error, OSError) else error)
