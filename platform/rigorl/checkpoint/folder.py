"""What is kept in folders, which are there whole or not at all and outlive a loss of power.

A folder is written as a draft beside its place and moved there when all of it is on the disk.
Its segments are shared by the next one as hard links, so that a checkpoint costs what is new and
not what there is.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rigorl import crash
from rigorl.checkpoint.sealed import MANIFEST, SEGMENT, Sum, read, seal
from rigorl.errors import StorageError

REFUSED = {"ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ESTALE"}
"""Errors that the storage is to blame for; any other is a bug of whoever writes."""


@dataclass(frozen=True)
class Folder:
    """A folder as a `Store`."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def below(self, name: str) -> "Folder":
        return Folder(self.path / name)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.glob("[!.]*"))

    @contextmanager
    def appearing(self, name: str, since: str | None = None) -> Iterator[Path]:
        with appearing(self.path / name, self.path / since if since else None) as draft:
            yield draft

    @contextmanager
    def lent(self, name: str) -> Iterator[Path | None]:
        folder = self.path / name
        yield folder if folder.exists() else None

    def remove(self, name: str) -> None:
        shutil.rmtree(self.path / name, ignore_errors=True)


@contextmanager
def appearing(folder: Path, since: Path | None = None) -> Iterator[Path]:
    """Lend a draft to write into; without an error it takes the place of *folder* in one move.

    The segments of *since* are in it already. Raises `StorageError` when the storage is full,
    or refuses.
    """
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        with blaming(folder, "make room there or choose another place with --home or --storage"):
            _make(folder.parent)
            for left in folder.parent.glob(".*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            draft.mkdir()
            shared = {} if since is None else _share(since, draft)
            yield draft
            crash.point("checkpoint.write")
            seal(draft, shared)
            for below in [path for path in sorted(draft.rglob("*")) if path.is_dir()] + [draft]:
                _flush(below)
            crash.point("checkpoint.before_rename")
            shutil.rmtree(folder, ignore_errors=True)
            draft.replace(folder)
            _flush(folder.parent)
            crash.point("checkpoint.after_rename")
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def blaming(where: object, way_out: str) -> Iterator[None]:
    """Make a `StorageError` of an error that the disk at *where* is to blame for."""
    try:
        yield
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) not in REFUSED:
            raise
        raise StorageError(
            f"what a trial keeps must be written whole, but {where}: {error.strerror}; "
            f"{way_out}: the same command again goes on from the checkpoint before"
        ) from error


def _share(since: Path, draft: Path) -> dict[str, Sum]:
    """Put the segments of *since* into *draft*. Return what they must be."""
    try:
        listed = read((since / MANIFEST).read_bytes())
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
