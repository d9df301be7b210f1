"""Why a member of a crew is gone, in words. Ray tells it in a page of text."""

import re

from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayError

from rigorl.errors import CrewError


def died(causes: list[str]) -> CrewError:
    """Return what is said of an item that members die of."""
    return CrewError(
        f"a member of a crew must outlive its item, but {len(causes)} died of the same one: "
        f"{_joined(causes)}; give the crew more memory, or work on the item in one process to "
        "see it crash (Ray's logs say more)"
    )


def deserted(causes: list[str]) -> CrewError:
    """Return what is said when no member can be had any more."""
    return CrewError(
        f"a crew must have members, but the last one could not start, {len(causes)} times: "
        f"{_joined(causes)}; mend what placement.crew asks for, or the cluster"
    )


def _joined(causes: list[str]) -> str:
    return "; then ".join(dict.fromkeys(causes))


def in_words(error: RayError) -> str:
    """Return why a member is gone, as far as Ray knows."""
    match error:
        case OutOfMemoryError():
            return "its node ran low on memory, so Ray killed it"
        case ActorUnavailableError():
            return "it could not be reached"
        case ActorDiedError(actor_init_failed=True):
            return f"it failed at once ({str(error).strip().splitlines()[-1]})"
    return _read(" ".join(str(error).split()))


def _read(said: str) -> str:
    if "its node has died" in said:
        return f"its node was lost ({said.rpartition(': ')[2]})"
    if code := re.search(r"exit code (\d+)", said):
        return f"its process ended by itself, with exit code {code[1]}"
    if "connection error" in said or "by a signal" in said:
        return (
            "its process was killed (by SIGKILL, perhaps for want of memory) or crashed in "
            "native code"
        )
    return f"Ray says: {said}"
