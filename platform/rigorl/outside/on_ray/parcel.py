"""How an item gets to a member of a crew, and what comes of it gets back: as bytes.

They are made when the item is handed over, so that it may be changed afterwards, and read anew
for each item, so that no item sees what another one did to its arguments. Values that are shared
are packed once, and stay out of them: small ones travel beside each item, and others lie in Ray's
object store, which carries them once to each node.
"""

import io
import pickle
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple

from ray import ObjectRef
from ray.cloudpickle import CloudPickler


class Shared:
    """Stands for a value: its bytes, or where they lie in Ray's object store.

    `value` is set where nothing else keeps it.
    """

    def __init__(self, content: bytes | ObjectRef, value: Any = None) -> None:
        self.content, self.value = content, value


class Parcel(NamedTuple):
    """A function with its item, and the values in it that are shared, by their numbers there."""

    order: bytes
    shared: tuple[Shared, ...]


class Reply(NamedTuple):
    """What came of an item: `result`, or else `error` and its traceback."""

    result: Any
    error: BaseException | None = None
    trace: str = ""


class There(Exception):  # noqa: N818  not an error, but where one was raised
    """The traceback of an error in another process."""

    def __str__(self) -> str:
        return f"\n\nin the process of a crew's member:\n{self.args[0]}"


class _Writer(CloudPickler):  # type: ignore[misc]
    """Leaves shared values out, and remembers which."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.shared: list[Shared] = []

    def persistent_id(self, part: Any) -> int | None:
        if not isinstance(part, Shared):
            return None
        if part not in self.shared:
            self.shared.append(part)
        return self.shared.index(part)


class _Reader(pickle.Unpickler):
    """Puts shared values where they belong."""

    def __init__(self, content: bytes, shared: Sequence[Any] = ()) -> None:
        super().__init__(io.BytesIO(content))
        self.shared = shared

    def persistent_load(self, pid: int) -> Any:
        return self.shared[pid]


def pack(content: Any) -> Parcel:
    """Return *content* as bytes, without what is shared. Raises what its parts do when pickled."""
    file = io.BytesIO()
    writer = _Writer(file)
    writer.dump(content)
    return Parcel(file.getvalue(), tuple(writer.shared))


def work(order: bytes, *shared: bytes) -> bytes:
    """Do what *order* says; return the `Reply`, packed."""
    try:
        function, item = _Reader(order, [_Reader(content).load() for content in shared]).load()
        return pack(Reply(function(item))).order
    except Exception as error:  # noqa: BLE001  a mistake belongs to its item, and ends no other
        return pack(Reply(None, _portable(error), traceback.format_exc())).order


def unpack(reply: bytes) -> Reply:
    """Return the `Reply` that `work` packed; one that cannot be read is the item's mistake."""
    try:
        found: Reply = _Reader(reply).load()
    except Exception as error:  # noqa: BLE001  as in `work`
        return Reply(None, error)
    if found.error is not None:
        found.error.__cause__ = There(found.trace)
    return found


def _portable(error: Exception) -> Exception:
    """Return *error*, or if it does not survive the journey, one that does and says the same."""
    try:
        arrived = unpack(pack(Reply(None, error)).order).error
    except Exception:  # noqa: BLE001  whatever its parts raise when they are pickled
        arrived = None
    if type(arrived) is type(error):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")
