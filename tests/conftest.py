import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["RAY_AUTH_MODE"] = "disabled"  # Ray of a test is a Ray of this machine alone
os.environ["OMP_NUM_THREADS"] = "1"

import msgspec
import pytest

from rigorl.spec import Experiment

TINY: dict[str, Any] = {
    "name": "tiny",
    "question": "Does the machinery work at all?",
    "arms": {"seeker": {"agent": {"name": "helpers.seeker"}}},
    "tasks": [{"name": "half", "env": "helpers.worlds:Target-v0"}],
    "budget": {"steps": 20, "exam_every": 10, "exam_episodes": 2},
    "seeds": {"test": [0, 1]},
}


def tiny(**changes: Any) -> Experiment:
    """Return a small experiment with some of its parts changed."""
    return msgspec.convert({**TINY, **changes}, Experiment)


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test loses power, and a tiny trial would spend most of its time on `fsync`."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="session", autouse=True)
def _unit_means_light(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a unit suite in which something imported Ray or MLflow: seconds each."""
    yield
    here = Path(__file__).parent
    if all(item.path.parent == here for item in request.session.items):
        heavy = {"ray", "mlflow"} & sys.modules.keys()
        assert not heavy, f"{heavy} must not be imported by a test outside tests/slow, but were"


@pytest.fixture
def spec() -> Experiment:
    return tiny()


@pytest.fixture(scope="session")
def searching() -> Experiment:
    """One arm as it comes and one that searches, on two tasks, tuned on other seeds."""
    space = {"rate": {"kind": "real", "low": 0.001, "high": 0.9, "log": True}}
    search = {"space": space, "candidates": 4, "generation": 2, "prune": {"grace": 0.1}}
    slow = {"name": "helpers.seeker", "config": {"rate": 0.02}}
    return tiny(
        arms={"plain": {"agent": slow}, "tuned": {"agent": slow, "search": search}},
        tasks=[
            {"name": "half", "env": "helpers.worlds:Target-v0", "kwargs": {"noise": 0.01}},
            {"name": "less", "env": "helpers.worlds:Target-v0", "kwargs": {"target": 0.3}},
        ],
        budget={"steps": 20, "exam_every": 10, "exam_episodes": 1, "dense": [1, 3]},
        seeds={"tune": [10, 11], "test": [0, 1, 2]},
    )


def pytest_collection_finish() -> None:
    gc.freeze()  # what was imported stays: each look through it would take 0.1 s
