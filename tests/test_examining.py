"""Exams that do not stop the learner: whoever takes them, however late, the same is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from helpers.crews import Failing, Hiding, Late, threads
from helpers.trials import HALF, encoded, reports, trial, until_saved
from rigorl.checkpoint import Folder, newest
from rigorl.contract import Crew
from rigorl.examining import Exams
from rigorl.lockstep import play
from rigorl.outside.in_process import Alone
from rigorl.spec import Budget
from rigorl.trial import Beat, Bundle, Event, Failure, Report

BUDGET = Budget(steps=40, exam_every=10, exam_episodes=2, checkpoint_every=15, dense=(1, 2, 5, 20))
ONE = Bundle(trials=(trial(budget=BUDGET, config={"every": 1}),))
CREWS: dict[str, Callable[[], Crew]] = {
    "late": Late,
    "two threads": lambda: threads(2),
    "five threads": lambda: threads(5),
}


def told(bundle: Bundle, crew: Crew, backlog: int, storage: Path | None = None) -> list[Event]:
    return list(play(bundle, Alone(), storage, Exams(crew, backlog)))


def blocking(bundle: Bundle) -> list[Event]:
    return list(play(bundle, Alone(), None))


@pytest.mark.parametrize("crew", CREWS)
@pytest.mark.parametrize("backlog", [1, 3, 100])
def test_the_same_is_told_in_the_same_order(crew: str, backlog: int) -> None:
    found, whole = told(ONE, CREWS[crew](), backlog), blocking(ONE)
    where = [(r.stage, r.step, r.update) for r in reports(found)]
    assert where == sorted(where)
    assert encoded(found) == encoded(whole)


def test_the_learner_goes_on_and_waits_when_it_is_too_far_ahead() -> None:
    for backlog in (1, 3):
        step, examined, ahead = 0, [0], []
        for event in told(ONE, Late(), backlog):
            if isinstance(event, Report) and event.stage == 0:
                ahead.append(step - examined[-1])
                examined.append(event.step)
            elif isinstance(event, Beat) and event.stage == 0:
                step = max(step, event.step)
        # The report of step 10 comes when the exams of 20 (and 30, 40) are taken.
        assert ahead[0] == 10 * (backlog + 1) - 1


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("backlog", [2, 100])
def test_exams_under_way_are_saved_and_taken_again(
    count: int, backlog: int, tmp_path: Path
) -> None:
    exams = Exams(Late(), backlog)
    first = until_saved(play(ONE, Alone(), tmp_path, exams), count)
    again = list(play(ONE, Alone(), tmp_path, exams))
    assert encoded([*first, *again]) == encoded(blocking(ONE))


def test_whoever_goes_on_need_not_have_a_crew(tmp_path: Path) -> None:
    first = until_saved(play(ONE, Alone(), tmp_path, Exams(Late(), 100)), 3)
    with newest(Folder(tmp_path / ONE.id)) as found:
        assert found.place.pending
    assert not reports(first)
    again = list(play(ONE, Alone(), tmp_path))
    assert encoded([*first, *again]) == encoded(blocking(ONE))


def test_episodes_that_diverged_in_exams_are_counted_where_they_were_taken() -> None:
    task = replace(HALF, kwargs={"nan_after": 3}, diverged=1.0)
    bundle = Bundle(trials=(trial(tasks=(task,), budget=BUDGET),))
    found, whole = told(bundle, Late(), 3), blocking(bundle)
    assert encoded(found) == encoded(whole)
    lost = [r.metrics["diverged"] for r in reports(whole)]
    assert lost == sorted(set(lost))


@pytest.mark.parametrize("crew", CREWS)
@pytest.mark.parametrize("at", [1, 4, 9])
def test_an_exam_that_fails_ends_the_trial_where_it_was_taken(crew: str, at: int) -> None:
    whole = list(play(ONE, Failing(Alone(), at), None))
    found = told(ONE, Failing(CREWS[crew](), at), 3)
    assert isinstance(whole[-1], Failure)
    assert found[-1] == whole[-1]
    assert encoded(found) == encoded(whole)


@pytest.mark.parametrize("at", [100, 3])
def test_what_failed_first_is_told_though_it_was_known_last(at: int) -> None:
    bundle = Bundle(trials=(trial(config={"nan_at": 33}),))
    whole = list(play(bundle, Failing(Alone(), at), None))
    found = told(bundle, Failing(Late(), at), 100)
    assert isinstance(found[-1], Failure)
    assert found[-1] == whole[-1]
    assert ("loss" in found[-1].cause) == (at == 100)
    assert encoded(found) == encoded(whole)


def candidate(bars: dict[int, float], **changes: Any) -> Bundle:
    return Bundle(trials=(trial(0, **changes), trial(1, **changes)), bars=bars)


@pytest.mark.parametrize("bars", [{}, {0: 1e9}, {0: -1e9, 2: 1e9}])
def test_a_candidate_ends_at_the_same_place(bars: dict[int, float]) -> None:
    bundle = candidate(bars)
    assert encoded(told(bundle, Late(), 100)) == encoded(blocking(bundle))


@pytest.mark.parametrize("config", [{}, {"nan_at": 5}])
@pytest.mark.parametrize("crew", [Alone, Late])
@pytest.mark.parametrize("at", [1, 3])
def test_of_several_seeds_the_first_to_fail_is_told_whatever_the_others_did(
    config: dict[str, Any], crew: Callable[[], Crew], at: int
) -> None:
    """An exam of the first one or of the second, who may fail in learning too."""
    bundle = Bundle(trials=(trial(0), trial(1, config)))
    whole = list(play(bundle, Failing(Alone(), at), None))
    found = told(bundle, Hiding(crew(), at), 100)
    assert _failures(found) == _failures(whole)
    assert [event.trial for event in _failures(found)] == [bundle.trials[at == 3].id]
    assert encoded(found) == encoded(whole)


@given(at=st.integers(1, 40), nan_at=st.integers(1, 80), every=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_a_candidate_fails_at_the_same_place(at: int, nan_at: int, every: int) -> None:
    bundle = candidate({1: -1e9}, config={"nan_at": nan_at, "every": every})
    whole = list(play(bundle, Failing(Alone(), at), None))
    found = told(bundle, Failing(Late(), at), 2)
    assert _failures(found) == _failures(whole)
    assert encoded(found) == encoded(whole)


def _failures(events: list[Event]) -> list[Failure]:
    return [event for event in events if isinstance(event, Failure)]
