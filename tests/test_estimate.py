"""What a study will cost, tried out."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
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


WORK = st.lists(st.floats(0.0, 5.0), min_size=1, max_size=30)
FEW = st.integers(1, 4)


def moments(gaps: list[float]) -> list[float]:
    return [sum(gaps[: i + 1]) for i in range(len(gaps))]


@pytest.mark.parametrize(
    ("crew", "backlog", "expected"),
    [
        (0, 2, 4 * 3.0),  # everybody waits
        (1, 1, 2.0 + 2.0 + 2.0 + 3.0),  # one exam ahead: at the second, the first has 2 s to go
        (1, 9, 4 * 3.0 - 3.0),  # only at the end, 12 s after the first began
        (2, 1, 1.0 + 1.0 + 3.0),  # two take turns: 1 | 2 | 3+1 | 4+1
        (
            4,
            1,
            2.0 + 2.0 + 1.0,
        ),  # not more hands are short, but the learner may not be further ahead
    ],
)
def test_who_waits_for_exams_is_worked_out(crew: int, backlog: int, expected: float) -> None:
    found = estimate.waiting_s([1.0, 2.0, 3.0, 4.0], 3.0, 1, crew, backlog)
    assert found == pytest.approx(expected)


@given(gaps=WORK, item_s=st.floats(0.0, 5.0), items=FEW, crew=FEW, backlog=FEW)
def test_no_wait_is_longer_than_without_a_crew_and_none_shorter_than_work_allows(
    gaps: list[float], item_s: float, items: int, crew: int, backlog: int
) -> None:
    found = estimate.waiting_s(moments(gaps), item_s, items, crew, backlog)
    work = len(gaps) * items * item_s
    assert found <= work + 1e-9
    assert found >= work / crew - (sum(gaps) - gaps[0]) - 1e-9
    assert found <= estimate.waiting_s(moments(gaps), item_s, items, crew, 1) + 1e-9


def test_a_crew_that_keeps_up_makes_nobody_wait_but_for_the_last_exam() -> None:
    often = [float(i) for i in range(1, 100)]
    assert estimate.waiting_s(often, 0.2, 4, 1, 1) == pytest.approx(0.8)
    assert estimate.waiting_s(often, 0.25, 8, 1, 1) == pytest.approx(2.0 * 99 - 98.0)


def test_more_places_than_trials_do_not_make_a_trial_shorter() -> None:
    spec = tiny()
    cost = estimate.Cost(
        "x", "test", 4, 100, 10, 1, core_s=400.0, trial_s=100.0, wait_s=0.0, crew_load=0.0
    )
    assert estimate.wall_s([cost, cost], spec, 2) == 400
    assert estimate.wall_s([cost, cost], spec, 100) == 100
    assert estimate.wall_s([], spec, 100) == 0
