"""What a place must offer in which trials keep things, and checkpoints in it.

What is kept has a name and is a folder: of a trial, its newest checkpoints and its final policies.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from rigorl.checkpoint.folder import Folder
from rigorl.checkpoint.place import PLACE, Place
from rigorl.checkpoint.sealed import MANIFEST, verify, why
from rigorl.errors import StorageError

KEPT = 2
"""Checkpoints that a trial keeps: the newest, and one to fall back to."""
CHECKPOINT, POLICIES = "checkpoint-", "policies"


class Store(Protocol):
    """A place to keep things in, whole or not at all; `str` of it says where that is.

    Raises `StorageError` where it cannot be written or read.
    """

    def below(self, name: str) -> "Store":
        """Return the place called *name* in this one, which need not be there yet."""

    def names(self) -> list[str]:
        """Return the names of what is here, sorted."""

    def appearing(self, name: str, since: str | None = None) -> AbstractContextManager[Path]:
        """Lend a draft to write into; without an error it stands as *name*, and none before.

        The segments of *since*, which stands here too, are in the draft already, or empty files
        in their stead. They may be removed, and are not to be written to.
        """

    def lent(self, name: str) -> AbstractContextManager[Path | None]:
        """Lend *name* for reading, as it is now: `verify` says whether that is as it was.

        None if it is not there.
        """

    def remove(self, name: str) -> None:
        """Take *name* away, or what is left of it."""


class Found(NamedTuple):
    """A place to go on from; without a name, the beginning. `note` says what was corrupt."""

    place: Place
    name: str | None = None
    folder: Path | None = None
    note: str = ""


def as_store(storage: "Path | Store | None") -> Store | None:
    """Return the store that *storage* is; a path is that of a folder."""
    return Folder(storage) if isinstance(storage, Path) else storage


@contextmanager
def newest(store: Store | None) -> Iterator[Found]:
    """Lend the newest checkpoint in *store* that is as it was written."""
    corrupt: list[str] = []
    for name in reversed(checkpoints(store) if store else []):
        assert store is not None  # noqa: S101
        with store.lent(name) as folder:
            found = _read(folder)
            if isinstance(found, Place):
                found = _lacks(store, found, name) or found
            if isinstance(found, Place):
                yield Found(found, name, folder, _note(corrupt, f"went on from {name}"))
                return
        corrupt.append(f"{name} is corrupt: {found}")
    yield Found(Place(), note=_note(corrupt, "began anew"))


def checkpoints(store: Store) -> list[str]:
    """Return the names of the checkpoints in *store*, oldest first."""
    return [name for name in store.names() if name.startswith(CHECKPOINT)]


def write(
    store: Store, place: Place, save: Callable[[Path], None] | None, since: str | None = None
) -> str:
    """Write *place* and what *save* writes into *store*; only when it stands do old ones go.

    *since* is the checkpoint that the run went on from, or wrote last: *save* finds its segments
    in the draft, and may remove them but not write to them. Not the newest one there is, for
    that may be corrupt. Return the name of what was written.
    """
    name = name_of(place)
    with store.appearing(name, None if save is None else since) as draft:
        if save is not None:
            save(draft)
        (draft / PLACE).write_bytes(msgspec.msgpack.encode(place))
    there = checkpoints(store)
    stop = there.index(name) + 1
    for old in there[: max(0, stop - KEPT)] + there[stop:]:  # what is ahead was corrupt
        if old not in place.needed + place.needed_before:
            store.remove(old)
    return name


def name_of(place: Place) -> str:
    """Return the name of the checkpoint that is made at *place*."""
    return f"{CHECKPOINT}{place.stage:04d}-{place.step:012d}"


@contextmanager
def reopened(store: Store, name: str) -> Iterator[tuple[Place, Path]]:
    """Lend the checkpoint *name*, which must be in *store* as it was written."""
    with store.lent(name) as folder:
        place = _read(folder)
        if folder is None or not isinstance(place, Place):
            raise StorageError(
                "a trial that rolls back must find the checkpoint before the fall as it was "
                f"written, but {store}/{name}: {place}; the same command again begins before it"
            )
        yield place, folder


def _lacks(store: Store, place: Place, name: str) -> str | None:
    """Say which checkpoint *place*, that of *name*, may go back to and is not as it was."""
    for other in place.needed:
        if other != name:
            with store.lent(other) as folder:
                found = _read(folder)
            if not isinstance(found, Place):
                return f"{other}, to which it may roll back, is corrupt: {found}"
    return None


def take_over(store: Store, other: Store, steps: int, trial: str) -> bool:
    """Put into *store*, that of *trial*, the checkpoint of *other* that the step *steps* made.

    Return whether it was there, as it was written. It may be on the point of being removed.
    """
    for name in reversed(checkpoints(other)):
        with other.lent(name) as folder:
            place = _read(folder)
            if folder is None or not isinstance(place, Place):
                continue
            if place.before < steps <= place.made:
                place.of(trial)
                with suppress(FileNotFoundError, shutil.Error), store.appearing(name) as draft:
                    _copy(folder, draft)
                    (draft / PLACE).write_bytes(msgspec.msgpack.encode(place))
                    return True
    return False


def _copy(folder: Path, draft: Path) -> None:
    """Copy what *folder* holds into *draft*. Raises `FileNotFoundError` if it went meanwhile."""
    shutil.copytree(folder, draft, dirs_exist_ok=True)
    fault = verify(draft)
    if fault is not None:
        raise FileNotFoundError(fault)
    (draft / MANIFEST).unlink()


def _read(folder: Path | None) -> Place | str:
    """Return the place in *folder*, or what is wrong with it."""
    if folder is None:
        return "it is gone"
    fault = verify(folder)
    if fault is not None:
        return fault
    try:
        return msgspec.msgpack.decode((folder / PLACE).read_bytes(), type=Place)
    except (OSError, ValueError) as error:
        return f"{PLACE} cannot be read ({why(error)})"


def _note(corrupt: list[str], then: str) -> str:
    return "; ".join([*corrupt, then]) if corrupt else ""
