"""A process that plays a trial is killed, and the next one ends it as if nothing had happened."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from helpers.trials import encoded, trial
from rigorl import checkpoint, crash
from rigorl.checkpoint import verify
from rigorl.lockstep import play
from rigorl.outside.in_process import Alone
from rigorl.trial import Bundle, Event, Start

TESTS = Path(__file__).parents[1]
ONE = Bundle(trials=(trial(),))
CHILD = """
import sys
from pathlib import Path
import msgspec
from rigorl.outside.in_process import Alone
from rigorl.lockstep import play
from rigorl.trial import Bundle
bundle = msgspec.msgpack.decode(bytes.fromhex(sys.argv[1]), type=Bundle)
for event in play(bundle, Alone(), Path(sys.argv[2])):
    print(msgspec.msgpack.encode(event).hex(), flush=True)
"""


def killed_at(point: str, storage: Path) -> list[Event]:
    """Play in a process that dies at *point*; return what it told before."""
    order = f"{point}:{storage.with_name('scar')}"
    path = os.pathsep.join([str(Path(crash.__file__).parents[1]), str(TESTS)])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, msgspec.msgpack.encode(ONE).hex(), str(storage)],
        env={**os.environ, "PYTHONPATH": path, crash.VARIABLE: order},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    lines = done.stdout.splitlines()
    return [msgspec.msgpack.decode(bytes.fromhex(line), type=Event) for line in lines]


@pytest.mark.parametrize(
    ("point", "taken_up", "standing"),
    [
        ("checkpoint.write:3", (0, 32), 2),  # at the end of the first task
        ("checkpoint.before_rename:5", (1, 16), 2),
        ("checkpoint.after_rename:4", (1, 16), 3),
        ("checkpoint.after_rename:6", (1, 32), 2),  # policies stand, the last checkpoint does not
        ("learn:60", (1, 16), 2),
        ("exam:11", (1, 16), 2),  # one of its two tasks is done
    ],
)
def test_what_a_kill_leaves_is_taken_up_to_the_same_end(
    point: str, taken_up: tuple[int, int], standing: int, tmp_path: Path
) -> None:
    storage = tmp_path / "trials"
    told = killed_at(point, storage)
    folder = storage / trial().id
    there = sorted(folder.glob("checkpoint-*"))
    assert [verify(path) for path in there] == [None] * standing
    start, *again = play(ONE, Alone(), storage)
    assert isinstance(start, Start)
    assert (start.stage, start.step, start.note) == (*taken_up, "")
    assert encoded(told + again) == encoded(play(ONE, Alone(), None))
    assert len(list(folder.glob("checkpoint-*"))) == checkpoint.KEPT
    assert not list(folder.glob(".*"))
