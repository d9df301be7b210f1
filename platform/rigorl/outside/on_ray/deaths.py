"""What a worker died of, in a sentence for a person, the first cause first.

Ray cannot tell a crash in native code from a kill: both close a socket. What tells them apart
is a file that the worker leaves (`leave_words`), where Python writes, when native code
crashes, which of its lines called it.
"""

import faulthandler
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ray
import ray._private.state
from ray import exceptions as died

from rigorl.errors import CrewError, RigorlError

FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+),? in (?P<name>\S+)')
CHAINED = re.compile(
    r"^(?:The above exception was the direct cause.*"
    r"|During handling of the above exception, another.*)$",
    re.MULTILINE,
)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
HEX = re.compile(r"\b(?:0x)?[0-9a-f]{16,}\b")
LONGEST = 400
"""Characters that are kept of what others say."""
REACH = 2.0
"""Seconds in which a node that lives takes up a connection."""
FRAMES = 3
"""Frames of a native crash that are told, the innermost first."""
OURS = f"{Path(ray.__file__).parent}/"


class Death(NamedTuple):
    """Why a worker is gone. `node_lost`: with its node, so through no fault of the trial."""

    words: str
    node_lost: bool = False


PLAIN = (
    (died.LocalRayletDiedError, Death("its node was lost (Ray's own process there died)", True)),
    (died.ActorPlacementGroupRemoved, Death("its place was taken back by its driver")),
    (died.TaskPlacementGroupRemoved, Death("its place was taken back by its driver")),
    (died.ObjectFreedError, Death("something that it was given is no longer in Ray's memory")),
    (died.ObjectLostError, Death("something that it was given was lost with its node", True)),
    (died.GetTimeoutError, Death("it did not answer in time")),
)
"""Errors that mean one thing, whatever they say."""
SIGNS = (
    ("its owner has died", "its driver is gone; it ran"),
    ("placement group was removed", "its place was taken back by its driver"),
    ("`ray.kill`", "it was ended by its driver"),
    ("references to the actor were removed", "it was ended by its driver"),
    ("receives a SIGTERM", "it was ended from outside by SIGTERM"),
)


def leave_words(file: Path) -> None:
    """Let this process, if native code crashes in it, write into *file* which lines called it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    faulthandler.enable(file.open("w"), all_threads=True)  # it keeps the file open


def last_words(file: Path) -> str:
    """Return what the process that left *file* was doing when it crashed; empty if it did not."""
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return ""
    what = re.search(r"^Fatal Python error: (.+)$", text, re.MULTILINE)
    if not what:
        return ""
    _, _, current = text.partition("Current thread")
    current = current.partition("\n\n")[0].partition("\nThread ")[0]
    frames = [where for _, where in _frames(current)][:FRAMES]
    return f"{what[1].strip()} in {', called from '.join(frames) or 'a thread without Python'}"


def cause(error: BaseException, last_words: str = "") -> Death:
    """Return what *error* of Ray's means; *last_words* are those of the worker, if it left any."""
    if isinstance(error, died.RayTaskError):
        if isinstance(error.cause, died.RayError):
            return cause(error.cause, last_words)
        lost = isinstance(error.cause, CrewError) and error.cause.node_lost
        return Death(_raised(str(error), error.cause), lost)
    if isinstance(error, died.ActorUnavailableError):
        return _unreachable(error, last_words)
    if isinstance(error, died.ActorDiedError | died.WorkerCrashedError):
        return _process(error, last_words)
    known = next((death for kind, death in PLAIN if isinstance(error, kind)), None)
    return known or _told(str(error)) or Death(_said(error))


def _process(error: died.ActorDiedError | died.WorkerCrashedError, last_words: str) -> Death:
    """An actor's death comes as a page of text; that of others says nothing."""
    text = COLOURS.sub("", str(error))
    where = _found(r"^\s*ip: (\S+)", text)
    if getattr(error, "actor_init_failed", False):
        return Death(f"it could not begin: {_raised(text)}")
    if getattr(error, "preempted", False):
        return _node(where, "preempted")
    told = _told(text)
    if told is None and not last_words and _lost_its_node(_actor(error)):
        return _node(where, "no connection")
    return told or Death(_killed(where, last_words))


def _told(text: str) -> Death | None:
    """Return what a text of Ray 2.60 tells, if it tells anything."""
    where = _found(r"^\s*ip: (\S+)", text)
    if "running low on memory" in text:
        return Death(_memory(text))
    if "runtime env" in text:
        where = where or _found(r"\[Node ([^\]]+)\]", text)
        return Death(f"its environment could not be set up{_on(where)}: {_raised(text)}")
    if "node has died" in text or "node it was running on is dead" in text:
        where = where or _found(r"Node IP: ([^\s,]+)", text)
        return _node(where, _found(r"node was terminated[^:]*: (.+)", text))
    if code := _found(r"exit code (\d+)\.(?! The process receives a SIGTERM)", text):
        return Death(f"its process ended itself with exit code {code}{_on(where)}")
    if why := _found(r"is not schedulable: (.+)", text):
        return Death(f"no node can hold it: {_plain(why)}")
    return next((Death(words + _on(where)) for sign, words in SIGNS if sign in text), None)


def _unreachable(error: died.ActorUnavailableError, last_words: str) -> Death:
    """Tell a worker that is gone from a node that is: Ray itself knows only after a while."""
    known = _actor(error)
    where = known.get("Address", {}).get("IPAddress", "")
    over = known.get("State") in ("DEAD", "RESTARTING") or known.get("NumRestarts")
    if last_words or (over and not _lost_its_node(known)):
        return Death(_killed(where, last_words))
    return _node(where, "no connection")


def _actor(error: BaseException) -> dict[str, Any]:
    """Return what Ray knows of the actor that *error* is about."""
    id_ = getattr(error, "actor_id", None)
    if not id_ or not ray.is_initialized():
        return {}
    found: dict[str, Any] = ray._private.state.actors(id_)  # noqa: SLF001  without its dashboard
    return found


def _lost_its_node(known: Mapping[str, Any]) -> bool:
    """Say whether nobody answers where Ray's own process on the actor's node should."""
    id_ = known.get("Address", {}).get("NodeID")
    for node in ray.nodes() if id_ else ():
        if node["NodeID"] == id_:
            at = node["NodeManagerAddress"], node["NodeManagerPort"]
            return not (node["Alive"] and _answers(at))
    return False


def _answers(at: tuple[str, int]) -> bool:
    try:
        socket.create_connection(at, timeout=REACH).close()
    except OSError:
        return False
    return True


def _node(where: str, why: str) -> Death:
    node = f"its node {where}" if where else "its node"
    return Death(f"{node} was lost{f' ({_plain(why)})' if why else ''}", node_lost=True)


def _killed(where: str, last_words: str) -> str:
    if last_words:
        return f"native code crashed{_on(where)}: {last_words}"
    return (
        f"it was killed from outside{_on(where)}, by SIGKILL as the kernel does when memory runs "
        "out (`dmesg` there tells), or native code crashed without last words"
    )


def _memory(text: str) -> str:
    where = _found(r"\(IP: ([^,)]+)", text)
    used = re.search(r"was (\S+) used / (\S+) limit", text)
    share = _found(r"exceeded threshold of \S+ \((\S+%)", text)
    own = _found(r"actual memory used=([^,)]+)", text)
    parts = ["out of memory: Ray's memory monitor ended it"]
    if own:
        parts.append(f", with {own} the largest it could end,")
    if used:
        parts.append(f" when {used[1]} of {used[2]} were in use{_on(where)}")
    if share:
        parts.append(f", more than the {share} that Ray allows (RAY_memory_usage_threshold)")
    return "".join(parts)


def _raised(text: str, raised: BaseException | None = None) -> str:
    """Return what was raised first and where, and what came of it."""
    if isinstance(raised, RigorlError):
        return _said(raised)
    told = [_exception(block) for block in CHAINED.split(COLOURS.sub("", text))]
    (first, *_), (last, where) = told[0], told[-1]
    last = f"{last} ({where})" if where else last
    return last if last.startswith(first) else f"{first}; so {last}"


def _exception(block: str) -> tuple[str, str]:
    """Return what a traceback ends with, and the last place in it that is a person's."""
    lines = block.strip().splitlines()
    ends = [i for i, line in enumerate(lines) if FRAME.match(line)]
    tail = lines[ends[-1] + 1 :] if ends else lines[-1:]
    said = [line for line in tail if not line.startswith("    ")]
    frames = _frames(block)
    theirs = [where for file, where in frames if "/lib/python3." not in file]
    where = [*(where for _, where in frames[-1:]), *theirs][-1:]
    return _plain(" ".join(said)), "".join(where)


def _frames(text: str) -> list[tuple[str, str]]:
    """Return the frames that are not Ray's: their files, and `agents/ppo.py:12 in learn`."""
    found = [match for line in text.splitlines() if (match := FRAME.match(line))]
    return [
        (
            frame["file"],
            f"{'/'.join(Path(frame['file']).parts[-2:])}:{frame['line']} in {frame['name']}",
        )
        for frame in found
        if not frame["file"].startswith((OURS, "<", "python/ray")) and "/ray/" not in frame["file"]
    ]


def _said(error: BaseException) -> str:
    text = _plain(str(error))
    if isinstance(error, RigorlError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _plain(text: str) -> str:
    """Return *text* in a line, without colours and without names that only a machine reads."""
    text = " ".join(HEX.sub("...", COLOURS.sub("", text)).split()).rstrip(".")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1] if match else ""


def _on(where: str) -> str:
    return f" on {where}" if where else ""
