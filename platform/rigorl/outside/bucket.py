"""A bucket of an object store, where trials keep things as they do in a folder: pyarrow.

Nothing is moved there. Files go up first and the manifest last, and what has no manifest is not
there; what goes, goes manifest first. Segments of the checkpoint before are copied by the server.
What is read is fetched into a folder that goes away.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import NamedTuple
from urllib.parse import parse_qsl

from pyarrow import fs

from rigorl import crash
from rigorl.checkpoint import MANIFEST, Folder, Store, blaming
from rigorl.checkpoint.sealed import SEGMENT, Sum, read, seal
from rigorl.errors import SpecError, StorageError, nearest

ATTEMPTS = 8
"""How often the SDK asks before it gives up: for a minute, where nothing answers."""
AT_FIRST = 3
"""And before anything is played: then it is more likely that somebody has mistyped."""
AT_ONCE = 8
"""Files that are on their way at the same time."""
CHUNK = 2**20
SETTINGS, SCHEMES = ("endpoint_override", "region", "scheme"), ("http", "https")
REFUSED = {
    "NO_SUCH_BUCKET": ("there is no such bucket", "make it, or name another with --storage"),
    "ExpiredToken": ("its credentials have expired", "renew them on every node"),
    "NETWORK_CONNECTION": ("it does not answer", "see that it can be reached from every node"),
    "ACCESS_DENIED": (
        "access is denied",
        "see that its credentials are there on every node, and may list, read, write and delete",
    ),
}
NO_ROOM = "make room there or choose another place with TMPDIR"
OTHERWISE = "see to the bucket and its credentials, or name another place with --storage"


class Address(NamedTuple):
    """Where a bucket is: what its URL and AWS's variables say."""

    root: str
    """Bucket and prefix."""
    endpoint: str | None = None
    """Host and port, if it is not Amazon's."""
    scheme: str = "https"
    region: str | None = None

    def __str__(self) -> str:
        return f"s3://{self.root}" + (f" at {self.endpoint}" if self.endpoint else "")


def opened(storage: str | Path, attempts: int = ATTEMPTS) -> Store:
    """Return the store that *storage* names: a folder, or `s3://bucket/prefix`."""
    if "://" not in str(storage):
        return Folder(Path(storage))
    at = address(str(storage))
    with _blaming(at):
        return Bucket(at, _connected(at, attempts))


def located(storage: str | Path) -> str:
    """Return *storage* as it may be said to a process that runs elsewhere."""
    return str(storage) if "://" in str(storage) else str(Path(storage).absolute())


def address(url: str) -> Address:
    """Return what *url* and AWS's variables say. Raises `SpecError`, without any secret."""
    said = dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    endpoint = said.get("endpoint_override") or next(filter(None, map(os.environ.get, names)), "")
    if "@" in url + endpoint:
        raise SpecError(
            "a storage must be named without credentials, but there is an @ in it; give them as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in AWS's own files, on every node"
        )
    kind, bare = url.partition("://")[0], url.partition("?")[0]
    name, _, prefix = bare.removeprefix("s3://").partition("/")
    if kind != "s3" or not re.fullmatch(r"[\w.-]+", name) or "#" in url:
        raise SpecError(
            f"a storage must be a folder or s3://bucket/prefix, but is {bare}...; write, for "
            "instance, s3://my-bucket/trials"
        )
    for key in said.keys() - set(SETTINGS):
        raise SpecError(f"a bucket has no setting {key!r}{nearest(key, SETTINGS)}")
    scheme, _, host = endpoint.rpartition("://")
    scheme = said.get("scheme") or scheme or "https"
    if scheme not in SCHEMES:
        raise SpecError(f"a bucket's scheme must be http or https, but is {scheme!r}; correct it")
    root = "/".join([name, *filter(None, prefix.split("/"))])
    region = said.get("region") or os.environ.get("AWS_REGION")
    return Address(root, host.rstrip("/") or None, scheme, region)


def _connected(at: Address, attempts: int) -> fs.S3FileSystem:
    region = at.region or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and at.endpoint is None:
        region = fs.resolve_s3_region(at.root.partition("/")[0])
    return fs.S3FileSystem(
        region=region,
        endpoint_override=at.endpoint,
        scheme=at.scheme,
        allow_delayed_open=True,  # one request for a small file, and not three
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
    )


@dataclass(frozen=True)
class Bucket:
    """A part of a bucket as a `Store`."""

    address: Address
    files: fs.S3FileSystem

    def __str__(self) -> str:
        return str(self.address)

    def below(self, name: str) -> "Bucket":
        return replace(self, address=self.address._replace(root=self._key(name)))

    def names(self) -> list[str]:
        return sorted(name for name, sizes in self._there().items() if MANIFEST in sizes)

    @contextmanager
    def appearing(self, name: str, since: str | None = None) -> Iterator[Path]:
        with TemporaryDirectory(prefix="rigorl-") as place:
            draft = Path(place)
            there = self._there()
            shared = self._shared(since, there) if since and since != name else {}
            with blaming(draft, NO_ROOM):
                _stand_in(shared, draft)
                yield draft
                kept = {file: s for file, s in shared.items() if _stands_in(draft / file)}
                new = seal(draft, kept, lasting=False)
            for old, sizes in there.items():
                if old == name or MANIFEST not in sizes:  # left by a process that was killed
                    self.remove(old)
            self._put_all(draft, name, new)
            crash.point("checkpoint.write")
            self._copy_all(str(since), name, kept)
            crash.point("checkpoint.before_rename")
            self._put_all(draft, name, [MANIFEST])
            crash.point("checkpoint.after_rename")

    @contextmanager
    def lent(self, name: str) -> Iterator[Path | None]:
        with TemporaryDirectory(prefix="rigorl-") as place:
            folder = Path(place)
            self._fetch_all(name, folder, [MANIFEST])
            if (folder / MANIFEST).exists():
                self._fetch_all(name, folder, _listed((folder / MANIFEST).read_bytes()))
                yield folder
            else:
                yield None

    def remove(self, name: str) -> None:
        with _blaming(self):
            with suppress(FileNotFoundError):
                self.files.delete_file(self._key(name, MANIFEST))
            with suppress(FileNotFoundError):
                self.files.delete_dir(self._key(name))

    def _there(self) -> dict[str, dict[str, int]]:
        """Return what is here, whole or not: the size of each file, by name and path below it."""
        everything = fs.FileSelector(self._key(), recursive=True, allow_not_found=True)
        with _blaming(self):
            found = self.files.get_file_info(everything)
        there: dict[str, dict[str, int]] = {}
        for info in found:
            name, _, file = info.path.removeprefix(self._key("")).partition("/")
            if info.is_file and file:
                there.setdefault(name, {})[file] = info.size
        return there

    def _shared(self, since: str, there: dict[str, dict[str, int]]) -> dict[str, Sum]:
        """Return what the segments of *since* must be, as far as they are there."""
        sizes = there.get(since, {})
        if MANIFEST not in sizes:  # it was there once; without it all is written again
            return {}
        with _blaming(self), self.files.open_input_stream(self._key(since, MANIFEST)) as file:
            listed = _listed(file.read())
        segments = {name: said for name, said in listed.items() if name.endswith(SEGMENT)}
        return {name: said for name, said in segments.items() if sizes.get(name) == said.size}

    def _key(self, *names: str) -> str:
        return "/".join([self.address.root, *names])

    def _put_all(self, folder: Path, name: str, files: Iterable[str]) -> None:
        def put(file: str) -> None:
            key = self._key(name, file)
            with (folder / file).open("rb") as ours, self.files.open_output_stream(key) as theirs:
                shutil.copyfileobj(ours, theirs, CHUNK)

        self._each(put, files)

    def _copy_all(self, since: str, name: str, files: Iterable[str]) -> None:
        self._each(lambda f: self.files.copy_file(self._key(since, f), self._key(name, f)), files)

    def _fetch_all(self, name: str, folder: Path, files: Iterable[str]) -> None:
        """Fetch *files* of *name* into *folder*, those that are there."""

        def fetch(file: str) -> None:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            with (
                suppress(FileNotFoundError),
                self.files.open_input_stream(self._key(name, file)) as theirs,
                (folder / file).open("wb") as ours,
            ):
                shutil.copyfileobj(theirs, ours, CHUNK)

        self._each(fetch, files)

    def _each(self, do: Callable[[str], None], files: Iterable[str]) -> None:
        with _blaming(self), ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(do, files):
                pass


def _listed(manifest: bytes) -> dict[str, Sum]:
    """Return what *manifest* lists; nothing if it is corrupt, which `verify` will say."""
    with suppress(ValueError):
        return read(manifest)
    return {}


def _stand_in(shared: Iterable[str], draft: Path) -> None:
    """Put an empty file for each of the *shared* into *draft*."""
    for name in shared:
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).touch()


def _stands_in(path: Path) -> bool:
    """Say whether *path* was left as it was: what has been written anew is no stand-in."""
    return path.is_file() and path.stat().st_size == 0


@contextmanager
def _blaming(where: object) -> Iterator[None]:
    """Say what the object store at *where* refuses, but not in its words: they may tell secrets."""
    try:
        with blaming(gettempdir(), NO_ROOM):
            yield
    except OSError as error:
        named = re.search(r"ExceptionName: (\w+)", str(error)) or re.search(
            r"AWS Error (\w+)", str(error)
        )
        code = named[1] if named else "an error without a name"
        fact, way_out = REFUSED.get(code, (code, OTHERWISE))
        raise StorageError(
            f"what a trial keeps must be written and read whole, but {where}: {fact}; {way_out}: "
            "the same command again goes on from the checkpoint before"
        ) from error
