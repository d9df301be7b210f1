"""Named places to die at: that a killed study loses nothing is shown by killing it.

`RIGORL_CRASH=name:n:scar` kills this process, as `kill -9` does, the n-th time (from 1) that it
passes the point *name*. It leaves the file *scar* behind and never dies while that is there, so
the same command, given again, goes on.
"""

import os
import signal
from collections import Counter

from rigorl.errors import SpecError, nearest

VARIABLE = "RIGORL_CRASH"
POINTS = (
    "journal.before_commit",  # reports are with the database, but do not last yet
    "journal.after_commit",  # they last, and nobody was told
    "checkpoint.write",  # some files are written, the manifest is not
    "checkpoint.before_rename",  # all is written, and nothing stands yet
    "checkpoint.after_rename",  # the new one stands, and so do more old ones than are kept
    "roll_back.before",  # it is decided, and nothing of it stands yet
    "roll_back.after",  # the agent stands where it was before the fall
    "exam",  # in the middle of one
    "learn",  # at a yield of a learner
    "mirror.flush",  # points are with MLflow, and the journal does not know yet
    "search.tell",  # a proposal is about to be kept, or a candidate to be judged
    "verdict",  # all is known, and nothing is printed
)
_passed: Counter[str] = Counter()


def point(name: str) -> None:
    """Die here if `RIGORL_CRASH` says so. Raises `SpecError` if what it says makes no sense."""
    assert name in POINTS, name  # noqa: S101
    order = os.environ.get(VARIABLE)
    if order:
        _obey(order, name)


def _obey(order: str, here: str) -> None:
    name, n, scar = _parse(order)
    if name != here:
        return
    _passed[name] += 1
    if _passed[name] == n and _leaves(scar):
        os.kill(os.getpid(), signal.SIGKILL)


def _parse(order: str) -> tuple[str, int, str]:
    name, _, rest = order.partition(":")
    n, _, scar = rest.partition(":")
    if name not in POINTS:
        raise SpecError(
            f"{VARIABLE} must begin with a point to die at, but is {order!r}{nearest(name, POINTS)}"
        )
    if not (n.isdecimal() and int(n) > 0 and scar):
        raise SpecError(
            f"{VARIABLE} must be `name:n:scar`, n from 1 on and scar a file, but is {order!r}; "
            f"write, for instance, {name}:1:scar, or unset it"
        )
    return name, int(n), scar


def _leaves(scar: str) -> bool:
    """Leave *scar*; return whether it was not there before."""
    try:
        os.close(os.open(scar, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    except OSError as error:
        raise SpecError(
            f"the scar of {VARIABLE} must be a file one can make, but {scar}: {error.strerror}; "
            "choose another place, or unset it"
        ) from error
    return True
