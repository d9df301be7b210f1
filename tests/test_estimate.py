"""What a study will cost, tried out."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from conftest import tiny
from rigorl import estimate
from rigorl.outside import yaml_file
from rigorl.outside.in_process import Alone

AGENTS = Path(__file__).parents[1] / "experiments" / "agents"


def test_a_replay_that_is_still_nearly_empty_is_counted_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(estimate, "TASTE", 0.05)
    disk = {}
    for name in ("sac", "ppo"):
        spec = yaml_file.read(AGENTS / f"{name}.yaml")
        budget = replace(spec.budget, steps=1_000_000, exam_every=1_000_000)
        cost = estimate.costs(replace(spec, budget=budget), Alone())[0]
        disk[name] = cost.disk_bytes / cost.trials
    # Two tasks of a million steps; Pendulum's transition has 3 + 1 + 3 + 2 numbers of four bytes.
    replay = 2_000_000 * 9 * 4
    assert replay < disk["sac"] < 1.3 * replay
    assert disk["ppo"] < 1_000_000


def test_more_places_than_trials_do_not_make_a_trial_shorter() -> None:
    spec = tiny()
    cost = estimate.Cost("x", "test", 4, 100, 10, 1, core_s=400.0)
    assert estimate.wall_s([cost, cost], spec, 2) == 400
    assert estimate.wall_s([cost, cost], spec, 100) == 100
    assert estimate.wall_s([], spec, 100) == 0
