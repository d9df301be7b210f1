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
    said = " ".join(str(error).split())
    if isinstance(error, RigorlError):
        words = said
    elif isinstance(error, ActorUnavailableError):
        return Death("it is out of reach: its node is lost, or cut off", node_lost=True)
    elif "its node has died" in said:
        return Death("its node was lost", node_lost=True)
    elif isinstance(error, OutOfMemoryError) or "memory on the node" in said:
        words = "its node ran low on memory, so Ray killed it"
    elif code := re.search(r"exit code (\d+)", said):
        words = f"its process ended by itself, with exit code {code[1]}"
    elif "connection error" in said:
        words = "its process was killed (perhaps for want of memory) or crashed in native code"
    else:
        words = f"{type(error).__name__}: {said}"
    return Death(words, node_lost=False)
