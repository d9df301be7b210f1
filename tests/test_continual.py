"""Continual metrics: a table worked out by hand, known mistakes, and laws."""

import math
import time
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.histories import FEW, SCORES, histories
from rigorl.analysis.continual import (
    acc,
    forg,
    gap_depth,
    la,
    min_acc,
    recovery_time,
    summary,
    wc_acc,
    windowed_forgetting,
    windowed_plasticity,
)

Array = NDArray[np.float64]
nan = math.nan
A = [0.5, 0.7, 0.8, 0.9, 0.3, 0.6, 0.7, 0.8, 0.2, 0.5, 0.6, 0.7]
B = [nan] * 4 + [0.4, 0.6, 0.8, 0.85, 0.1, 0.4, 0.6, 0.65]
C = [nan] * 8 + [0.3, 0.5, 0.7, 0.75]
TABLE = np.array([A, B, C])
ENDS = [3, 7, 11]
BOTH = [windowed_forgetting, windowed_plasticity]
ALONE = [acc, forg, la, min_acc, wc_acc]


def test_the_table_after_task_two() -> None:
    two = TABLE[:, :8]
    assert acc(two, ENDS) == pytest.approx(0.825)
    assert forg(two, ENDS) == pytest.approx(0.10)
    assert min_acc(two, ENDS) == pytest.approx(0.30)
    assert wc_acc(two, ENDS) == pytest.approx(0.575)


def test_the_table_after_task_three() -> None:
    assert acc(TABLE, ENDS) == pytest.approx(0.70)
    assert forg(TABLE, ENDS) == pytest.approx(0.20)
    assert la(TABLE, ENDS) == pytest.approx(2.5 / 3)
    assert min_acc(TABLE, ENDS) == pytest.approx(0.15)
    assert wc_acc(TABLE, ENDS) == pytest.approx(0.35)


@pytest.mark.parametrize(
    ("window", "falls", "rises"),
    [
        (2, (0.6, 0.75, 0.0), (0.3, 0.3, 0.2)),
        (3, (0.6, 0.75, 0.0), (0.4, 0.5, 0.4)),
        (4, (0.6, 0.75, 0.0), (0.5, 0.55, 0.45)),
    ],
)
def test_the_table_in_windows(
    window: int, falls: tuple[float, ...], rises: tuple[float, ...]
) -> None:
    for row, fall, rise in zip(TABLE, falls, rises, strict=True):
        assert windowed_forgetting(row[None], window) == pytest.approx(fall)
        assert windowed_plasticity(row[None], window) == pytest.approx(rise)
    assert windowed_forgetting(TABLE, window) == pytest.approx(np.mean(falls))
    assert windowed_plasticity(TABLE, window) == pytest.approx(np.mean(rises))


def test_the_table_in_short() -> None:
    found = summary(TABLE, ENDS, (2, 4), at_N=range(12))
    depths = (0.9 - 0.2 + 0.85 - 0.1) / 2
    expected = {"acc": 0.70, "forg": 0.20, "la": 2.5 / 3, "min_acc": 0.15, "wc_acc": 0.35}
    expected |= {"wf2": 0.45, "wf4": 0.45, "wp2": 0.8 / 3, "wp4": 0.5, "gap_depth": depths}
    expected |= {"recovery_updates": nan, "unrecovered": 2.0}
    assert found == pytest.approx(expected, nan_ok=True)


def test_a_rise_begins_at_the_lowest_score() -> None:
    """The paper's public code skips starts below the best so far, and finds 0.4 here."""
    assert windowed_plasticity([[0.5, 0.1, 0.9]], 3) == pytest.approx(0.8)
    assert windowed_forgetting([[0.5, 0.9, 0.1]], 3) == pytest.approx(0.8)


def test_minima_are_taken_of_each_task_before_the_mean() -> None:
    scores = [[1.0, 0.0, 1.0, 1.0], [nan, 1.0, 0.0, 1.0], [nan, nan, 1.0, 1.0]]
    assert min_acc(scores, [0, 1, 3]) == 0.0  # the lowest mean is 0.5


def test_the_task_being_learned_and_what_came_before_do_not_count() -> None:
    scores = [[0.0, 0.9, 0.8, 0.7], [nan, nan, 0.1, 0.6]]
    assert min_acc(scores, [1, 3]) == pytest.approx(0.7)
    assert gap_depth(scores, [1, 3]) == pytest.approx([0.2, 0.0])


def test_forgetting_is_against_the_score_when_learned() -> None:
    scores = [[0.5, 0.9, 0.4], [nan, 0.3, 0.3]]  # it rose to 0.9 afterwards
    assert forg(scores, [0, 2]) == pytest.approx(0.1)


def test_a_stage_that_is_running_is_learned_at_its_latest_evaluation() -> None:
    running = TABLE[:, :6]
    now = [3, 5, -1]
    assert la(running, now) == pytest.approx((0.9 + 0.6) / 2)
    assert forg(running, now) == pytest.approx(0.3)
    assert min_acc(running, now) == pytest.approx(0.3)
    assert wc_acc(running, now) == pytest.approx((0.6 + 0.3) / 2)
    for metric in ALONE:
        assert metric(running, now) == metric(running, ENDS)  # the planned end means the same


def test_with_one_task_some_things_are_undefined() -> None:
    one = TABLE[:, :4]
    for scores, ends in ((one, ENDS), (one[:1], [3])):
        assert acc(scores, ends) == la(scores, ends) == wc_acc(scores, ends) == 0.9
        assert math.isnan(forg(scores, ends))
        assert math.isnan(min_acc(scores, ends))
        assert math.isnan(summary(scores, ends, (), range(4))["unrecovered"])


def test_with_no_task_begun_nothing_is_defined() -> None:
    empty = np.full((2, 3), nan)
    assert all(math.isnan(metric(empty, [0, 0])) for metric in ALONE)
    assert all(math.isnan(metric(empty, 2)) for metric in BOTH)
    assert np.isnan(gap_depth(empty, [0, 0])).all()
    assert np.isnan(recovery_time(empty, [0, 0])).all()


def test_holes_are_evaluations_that_did_not_take_place() -> None:
    scores = [[0.9, nan, 0.3, nan, 0.8, nan], [nan, nan, nan, 0.5, 0.5, 0.6]]
    assert acc(scores, [1, 5]) == pytest.approx((0.8 + 0.6) / 2)
    assert la(scores, [1, 5]) == pytest.approx((0.9 + 0.6) / 2)
    assert min_acc(scores, [1, 5]) == pytest.approx(0.3)
    assert windowed_forgetting(scores[:1], 2) == pytest.approx(0.6)
    assert recovery_time(scores, [1, 5], share=0.8, at_N=range(0, 60, 10))[0] == 20
    assert recovery_time(scores, [1, 5], share=0.8)[0] == 1


def test_an_old_task_without_later_exams_leaves_its_minimum_undefined() -> None:
    scores = [[0.9, nan], [nan, 0.5]]
    assert math.isnan(min_acc(scores, [0, 1]))
    assert math.isnan(wc_acc(scores, [0, 1]))


def test_recovery_is_the_length_of_the_first_dip() -> None:
    scores = np.array(
        [
            [1.0, 0.96, 0.5, 0.9, 0.95, 0.2],  # below at 2, back at 4
            [1.0, 0.96, 0.95, 1.0, 1.1, 0.95],  # never below
            [1.0, 0.5, 0.6, 0.7, 0.8, 0.9],  # not yet back
            [nan, nan, nan, nan, nan, 0.3],  # just begun
        ]
    )
    ends, updates = [0, 0, 0, 5], [0, 1, 2, 4, 8, 16]
    assert recovery_time(scores, ends) == pytest.approx([2, 0, nan, 0], nan_ok=True)
    times = recovery_time(scores, ends, at_N=updates)
    assert times == pytest.approx([6, 0, nan, 0], nan_ok=True)
    assert np.isnan(recovery_time(scores[:1], [0], share=0.5)).all()  # 0.5 is not below, 0.2 is
    found = summary(scores, ends, (), updates)
    assert found["unrecovered"] == 1
    assert found["recovery_updates"] == pytest.approx(3)


def test_recovery_from_negative_scores() -> None:
    """95 % of -100 is -105: a score that falls by 5 % of its size is still as good."""
    assert recovery_time([[-100.0, -105.0, -104.0]], [0]) == 0
    assert recovery_time([[-100.0, -106.0, -200.0, -105.0]], [0]) == 2


@pytest.mark.parametrize(
    ("scores", "ends", "fact"),
    [
        (np.zeros(3), [0], "tasks x evaluations"),
        (np.zeros((0, 3)), [], "at least one of each"),
        (np.zeros((1, 0)), [0], "at least one of each"),
        ([[0.0, np.inf]], [1], "row 0 is inf at evaluation 1"),
        (np.zeros((2, 3)), [0], r"one index a task, but has the shape \(1,\) for 2 tasks"),
        (np.zeros((1, 3)), [-1], "indices from 0 on"),
        (np.zeros((1, 3)), [0.5], "indices from 0 on"),
        (np.zeros((1, 3)), [nan], "indices from 0 on"),
        (np.zeros((2, 3)), [400, 800], "count evaluations, not updates"),
        ([[nan, nan, 0.5]], [1], "before a task is first examined, but is 1 for row 0"),
    ],
)
def test_what_cannot_be_is_refused(scores: Array, ends: list[float], fact: str) -> None:
    for metric in [*ALONE, gap_depth, recovery_time]:
        with pytest.raises(ValueError, match=fact):
            metric(scores, ends)


def test_nonsense_about_windows_and_recovery_is_refused() -> None:
    for metric in BOTH:
        with pytest.raises(ValueError, match="window must hold evaluations"):
            metric(TABLE, 0)
    with pytest.raises(ValueError, match="share must be in"):
        recovery_time(TABLE, ENDS, share=95)
    for at_N in (range(3), [*range(11), 0]):
        with pytest.raises(ValueError, match="one number an evaluation, 12 of them"):
            recovery_time(TABLE, ENDS, at_N=at_N)


def test_long_series_are_quick() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 10_000))
    start = time.perf_counter()
    for window in (2, 10, 100, 5_000, 20_000):
        windowed_forgetting(scores, window)
        windowed_plasticity(scores, window)
    assert time.perf_counter() - start < 1


def slow_change(scores_TN: Array, window: int, sign: int) -> float:
    """Return WF (sign 1) or WP (-1) by looking at all pairs."""
    changes = []
    for row in scores_TN:
        series = [x for x in row if not math.isnan(x)]
        pairs = combinations(enumerate(series), 2)
        drops = [sign * (x - y) for (m, x), (n, y) in pairs if n - m < window]
        if series:
            changes.append(max([0.0, *drops]))
    return float(np.mean(changes))


@FEW
@given(histories(holes=True), st.integers(1, 30))
def test_windows_find_what_all_pairs_find(history: tuple[Array, list[int]], window: int) -> None:
    scores, _ = history
    assert windowed_forgetting(scores, window) == pytest.approx(slow_change(scores, window, 1))
    assert windowed_plasticity(scores, window) == pytest.approx(slow_change(scores, window, -1))


@FEW
@given(histories(), st.integers(1, 12))
def test_longer_windows_never_find_less(history: tuple[Array, list[int]], window: int) -> None:
    for metric in BOTH:
        assert metric(history[0], window) <= metric(history[0], window + 1)


@FEW
@given(histories())
def test_the_worst_case_is_no_better_than_the_latest(history: tuple[Array, list[int]]) -> None:
    scores, ends = history
    assert wc_acc(scores, ends) <= acc(scores, ends) + 1e-9
    if len(scores) > 1:
        assert min_acc(scores, ends) <= np.mean(scores[:-1, -1]) + 1e-9
        mixed = scores[-1, -1] / len(scores) + (1 - 1 / len(scores)) * min_acc(scores, ends)
        assert wc_acc(scores, ends) == pytest.approx(mixed)


@FEW
@given(histories())
def test_more_evaluations_never_raise_the_minimum(history: tuple[Array, list[int]]) -> None:
    scores, ends = history
    if len(scores) > 1:
        later = [min_acc(scores[:, : n + 1], ends) for n in range(ends[-2] + 1, ends[-1] + 1)]
        assert all(a >= b for a, b in pairwise(later))
        at_boundaries = scores[:, ends]
        assert min_acc(scores, ends) <= min_acc(at_boundaries, range(len(ends))) + 1e-9


@FEW
@given(histories(), SCORES)
def test_what_never_changes_has_nothing_to_show(
    history: tuple[Array, list[int]], level: float
) -> None:
    scores = np.where(np.isnan(history[0]), nan, level)
    found = summary(scores, history[1], (2, 10), range(scores.shape[1]))
    assert [found[name] for name in ("acc", "la", "wc_acc")] == pytest.approx([level] * 3)
    assert (found["wf2"], found["wf10"], found["wp2"], found["wp10"]) == (0, 0, 0, 0)
    if len(scores) > 1:
        names = ("forg", "gap_depth", "recovery_updates", "unrecovered")
        assert [found[name] for name in names] == [0, 0, 0, 0]


@FEW
@given(histories(holes=True))
def test_tasks_may_come_in_any_order_and_with_others_not_begun(
    history: tuple[Array, list[int]],
) -> None:
    scores, ends = history
    N = scores.shape[1]
    more = np.vstack([scores, np.full((1, N), nan)])[::-1]
    found = summary(more, [-7, *ends[::-1]], (2, 3), range(N))
    assert found == pytest.approx(summary(scores, ends, (2, 3), range(N)), nan_ok=True)
