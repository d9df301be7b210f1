"""A study that is sent to a cluster: what rigorl says to it, asked here or in another process."""

import re
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.commands import SPEC, environment
from rigorl import arguments, remote
from rigorl.errors import IncompleteResults

SLOW = """
name: slow
question: Does it go on from where it was stopped?
arms:
  plain: {agent: {name: helpers.seeker, config: {rate: 0.02, pause: 0.02}}}
tasks: [{name: half, env: "helpers.worlds:Target-v0"}]
budget: {steps: 800, exam_every: 100, exam_episodes: 1, checkpoint_every: 100}
seeds: {test: [0, 1]}
"""


def specs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put specs into *folder*, and go there."""
    (folder / "small.yaml").write_text(SPEC)
    (folder / "slow.yaml").write_text(SLOW)
    monkeypatch.chdir(folder)
    return folder


def told(*words: str) -> str:
    """Return what rigorl says to *words*, asked in this process."""
    args = arguments.parser().parse_args(words)
    return "\n".join(remote.VERBS[args.verb](args))


def start(place: Path, *words: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rigorl", *words],
        cwd=place,
        env={**environment(place), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def asked(url: str, **headers: str) -> str:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return str(answer.read().decode())


def ids(text: str) -> list[str]:
    return re.findall(r"^(rigorl-\S+): ", text, re.MULTILINE)


def wait_for_words(seen: str = "") -> None:
    """Wait until the driver tells of its progress, beyond what was *seen*."""
    until = time.monotonic() + 100
    while time.monotonic() < until:
        with suppress(IncompleteResults):
            if "steps/s" in told("logs", "slow.yaml").removeprefix(seen):
                return
        time.sleep(0.2)
    pytest.fail("the driver said nothing")
