"""rigorl as a person calls it: a process, in a folder of its own, on a small study."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPEC = """
name: small
question: Does the front door open and close?
arms:
  plain: {agent: {name: helpers.seeker, config: {rate: 0.02}}}
  tuned:
    agent: {name: helpers.seeker, config: {rate: 0.02}}
    search:
      candidates: 3
      generation: 2
      space: {rate: {kind: real, low: 0.01, high: 0.9, log: true}}
tasks:
  - {name: half, env: helpers.worlds:Target-v0, random: -5, reference: 0}
  - {name: less, env: helpers.worlds:Target-v0, kwargs: {target: 0.3}, random: -5, reference: 0}
budget: {steps: 40, exam_every: 20, exam_episodes: 2}
seeds: {tune: [7], test: [0, 1]}
"""


def environment(place: Path) -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT / "platform"), str(ROOT / "tests")])
    home = place / "user"
    home.mkdir(exist_ok=True)
    return {**os.environ, "PYTHONPATH": paths, "RAY_AUTH_MODE": "disabled", "HOME": str(home)}


def rigorl(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rigorl", *words],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)
