"""Why a worker is gone, in words. Ray tells it in a page of text."""

import re
from typing import NamedTuple

from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayTaskError

from rigorl.errors import RigorlError


class Death(NamedTuple):
    """What happened, in words; and whether all of a node is gone, not only a process."""

    words: str
    node_lost: bool


def cause(error: BaseException) -> Death:
    """Return why a worker is gone, as far as Ray knows."""
    if isinstance(error, RayTaskError):
        error = error.cause
    if isinstance(error, RigorlError):
        return Death(str(error), node_lost=False)
    said = " ".join(str(error).split())
    if isinstance(error, OutOfMemoryError) or "memory on the node" in said:
        return Death("its node ran low on memory, so Ray killed it", node_lost=False)
    if isinstance(error, ActorUnavailableError):
        return Death("it is out of reach: its node is lost, or cut off", node_lost=True)
    if "its node has died" in said:
        return Death("its node was lost", node_lost=True)
    if code := re.search(r"exit code (\d+)", said):
        return Death(f"its process ended by itself, with exit code {code[1]}", node_lost=False)
    if "connection error" in said:
        return Death(
            "its process was killed (by SIGKILL, perhaps for want of memory) or crashed in "
            "native code",
            node_lost=False,
        )
    return Death(f"{type(error).__name__}: {said}", node_lost=False)
