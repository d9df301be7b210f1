"""Depth, length, area, quantiles and transfer: worked out by hand, and laws."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.histories import FEW, SCORES, histories
from rigorl.analysis import continual
from rigorl.analysis.gap import (
    Clocks,
    aaa,
    by_task,
    gap_area,
    lca,
    low_acc,
    spans,
    summary,
    window_spans,
)
from rigorl.analysis.transfer import forward_transfer

Array = NDArray[np.float64]
nan = math.nan
A = [0.5, 0.7, 0.8, 0.9, 0.3, 0.6, 0.7, 0.8, 0.2, 0.5, 0.6, 0.7]
B = [nan] * 4 + [0.4, 0.6, 0.8, 0.85, 0.1, 0.4, 0.6, 0.65]
C = [nan] * 8 + [0.3, 0.5, 0.7, 0.75]
TABLE = np.array([A, B, C])
ENDS = [3, 7, 11]
AT = list(range(1, 13))
CLOCKS = Clocks(AT, [10 * at for at in AT])
SEEN = [0.5, 0.7, 0.8, 0.9, 0.35, 0.6, 0.75, 0.825, 0.6 / 3, 1.4 / 3, 1.9 / 3, 2.1 / 3]


def test_the_table_has_areas() -> None:
    # below .9 lie .6 .3 .2 .1 .7 .4 .3 .2, and below .85: .75 .45 .25 .2; the last ones half
    assert gap_area(TABLE, ENDS, AT) == pytest.approx([2.7, 1.55, 0.0])
    assert gap_area(TABLE, ENDS, [10 * at for at in AT]) == pytest.approx([27, 15.5, 0.0])


def test_an_area_may_end_where_the_first_dip_does() -> None:
    found = gap_area(TABLE, ENDS, AT, until_back=True)
    assert found == pytest.approx([nan, nan, 0.0], nan_ok=True)  # neither has come back to 95 %
    found = gap_area(TABLE, ENDS, AT, until_back=True, share=0.8)  # A is back at .8 >= .72
    assert found == pytest.approx([0.6 + 0.3 + 0.2 + 0.05, nan, 0.0], nan_ok=True)


def test_an_area_is_as_long_as_the_gap_and_not_as_often_examined() -> None:
    """Exams crowd after a switch: an area by evaluations would count them and not the time."""
    often = [[1.0, 0.5, 0.5, 0.5, 0.5, 1.0]]
    seldom = [[1.0, 0.5, 0.5, 1.0]]
    by_updates = gap_area(often, [0], [0, 1, 2, 3, 10, 11])
    assert by_updates == pytest.approx(gap_area(seldom, [0], [0, 1, 10, 11]))
    assert by_updates == pytest.approx([0.25 + 4.5 + 0.25])


def test_a_score_above_what_was_learned_pays_nothing_back() -> None:
    assert gap_area([[0.5, 0.3, 0.9, 0.9]], [0], range(4)) == pytest.approx([0.1 + 0.1])


def test_the_table_has_low_quantiles() -> None:
    # ordered .2 .3 ..., place .7 of 7: .27; and .1 .4 ..., place .3 of 3: .19
    assert low_acc(TABLE, ENDS) == pytest.approx((0.27 + 0.19) / 2)
    assert low_acc(TABLE, ENDS, 0.0) == pytest.approx(continual.min_acc(TABLE, ENDS))
    assert math.isnan(low_acc(TABLE[:, :4], ENDS))


def test_one_unlucky_exam_moves_the_minimum_and_hardly_the_quantile() -> None:
    steady = [[0.9] * 31, [nan] * 10 + [0.5] * 21]
    unlucky = [[0.9] * 20 + [0.0] + [0.9] * 10, steady[1]]
    assert continual.min_acc(unlucky, [9, 30]) == 0.0
    assert low_acc(unlucky, [9, 30]) == low_acc(steady, [9, 30]) == 0.9


def test_the_table_over_time() -> None:
    assert aaa(TABLE) == pytest.approx(np.mean(SEEN))
    assert aaa(TABLE, AT) == pytest.approx(np.mean(SEEN))  # at equal distances it is the same
    assert aaa([[0.0, 1.0, 1.0]], [10, 11, 20]) == pytest.approx(0.5)
    assert aaa([[0.0, 1.0]], [0, 0]) == 0.5  # an agent that makes no updates
    assert aaa([[0.0, nan, 1.0]], [1, 2, 4]) == pytest.approx(3 / 4)
    assert math.isnan(aaa([[nan, nan]]))


def test_the_table_when_it_is_being_learned() -> None:
    assert lca(TABLE, ENDS, 2) == pytest.approx([0.6, 0.5, 0.4])
    assert lca(TABLE, ENDS, 4)[1] == pytest.approx(2.65 / 4)
    assert lca(TABLE, ENDS, 5) == pytest.approx([nan] * 3, nan_ok=True)
    assert lca(TABLE[:, :6], ENDS, 3) == pytest.approx([2.0 / 3, nan, nan], nan_ok=True)


def test_windows_say_how_many_updates_they_took() -> None:
    scores, at = [[1.0, 1.0, 1.0, 1.0], [nan, nan, 1.0, 1.0]], [1, 2, 4, 8]
    assert window_spans(scores, at, 2).tolist() == [1, 2, 4, 4]
    assert window_spans(scores, at, 3).tolist() == [3, 6]
    assert window_spans(scores, at, 5).tolist() == []
    assert spans([np.array([1.0, 2, 4]), np.array([6.0])], 4) == (3.0, 1.0, 6.0, 4)
    assert spans([np.array([])], 4) == pytest.approx((nan, nan, nan, 4), nan_ok=True)


def test_the_table_in_short() -> None:
    found = summary(TABLE, ENDS, CLOCKS)
    falls = (0.7 + 0.75) / 2
    expected = {"low_acc": 0.23, "min_fall": falls, "wc_fall": 2 / 3 * falls, "low_fall": 0.645}
    expected |= {"gap_area": 2.125, "dip_area": nan, "aaa": np.mean(SEEN), "lca10": nan}
    expected |= {"recovery_steps": nan, "recovery_evaluations": nan}
    assert found == pytest.approx(expected, nan_ok=True)


def test_times_are_told_in_steps_and_evaluations() -> None:
    scores = [[1.0, 0.5, 0.6, 1.0], [nan, 0.5, 0.5, 0.5]]
    found = summary(scores, [0, 3], Clocks([5, 6, 8, 9], [10, 20, 40, 80]))
    assert (found["recovery_steps"], found["recovery_evaluations"]) == (60, 2)
    assert found["dip_area"] == pytest.approx(0.25 + 0.9 + 0.2)


def test_each_task_alone() -> None:
    first, _, last = by_task(TABLE, ENDS, (2,), CLOCKS)
    assert (first["now"], first["learned"], first["lowest"], first["worst"]) == (0.7, 0.9, 0.2, 0.2)
    assert [first[n] for n in ("forg", "min_fall", "gap_depth", "gap_area", "wf2")] == (
        pytest.approx([0.2, 0.7, 0.7, 2.7, 0.6])
    )
    assert (last["now"], last["worst"]) == (0.75, 0.75)
    assert all(math.isnan(last[n]) for n in ("forg", "lowest", "low", "gap_area", "gap_depth"))
    assert by_task(TABLE[:, :4], ENDS, (2,), CLOCKS._replace(update_N=AT[:4], step_N=AT[:4]))[
        1:
    ] == [
        {},
        {},
    ]


def test_transfer_by_hand() -> None:
    found = forward_transfer(
        np.array([0.6, 0.4, 0.5, 0.9, 0.9, 0.9]), np.array([0.2, 0.6, 0.5, 1, 1.2, nan])
    )
    assert found == pytest.approx([0.5, -0.5, 0.0, nan, nan, nan], nan_ok=True)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"quantile must be from 0 to 1, but is 10; 0\.1 would do"):
        low_acc(TABLE, ENDS, 10)
    with pytest.raises(ValueError, match="beta must count evaluations, but is 0"):
        lca(TABLE, ENDS, 0)
    with pytest.raises(ValueError, match="at must have one number an evaluation"):
        gap_area(TABLE, ENDS, AT[:3])


@FEW
@given(histories(holes=True), st.floats(0, 1))
def test_bounds(history: tuple[Array, list[int]], quantile: float) -> None:
    scores, ends = history
    T, N = scores.shape
    at_N = np.arange(N)
    area_T = gap_area(scores, ends, at_N)
    dip_T = gap_area(scores, ends, at_N, until_back=True)
    depth_T = continual.gap_depth(scores, ends)
    assert (area_T >= 0).all()
    assert (area_T <= depth_T * N + 1e-9).all()
    assert ((area_T > 0) <= (depth_T > 0)).all()
    assert not (dip_T > area_T + 1e-9).any()
    assert np.nanmin(scores) - 1e-9 <= aaa(scores, at_N)
    if T > 1:
        found = summary(scores, ends, Clocks(at_N, at_N))
        whole = not np.isnan(scores[:-1, -1]).any()
        if whole:  # no old task was left out after it was learned
            fall = continual.la(scores, ends) - continual.wc_acc(scores, ends)
            assert found["wc_fall"] == pytest.approx(fall, abs=1e-9)
            low = low_acc(scores, ends, quantile)
            assert continual.min_acc(scores, ends) <= low + 1e-9


@FEW
@given(histories(), SCORES)
def test_what_never_changes_has_no_gap(history: tuple[Array, list[int]], level: float) -> None:
    scores = np.where(np.isnan(history[0]), nan, level)
    at_N = np.arange(scores.shape[1])
    found = summary(scores, history[1], Clocks(at_N, at_N))
    assert found["aaa"] == pytest.approx(level)
    if len(scores) > 1:
        names = ("min_fall", "wc_fall", "low_fall", "gap_area", "dip_area", "recovery_steps")
        assert [found[name] for name in names] == pytest.approx([0] * 6)
        assert found["low_acc"] == pytest.approx(level)


@FEW
@given(histories())
def test_more_evaluations_never_make_a_gap_less(history: tuple[Array, list[int]]) -> None:
    scores, ends = history
    if len(scores) > 1:
        short = range(ends[-2] + 1, ends[-1] + 1)
        areas = [gap_area(scores[:, : n + 1], ends, range(n + 1))[:-1].sum() for n in short]
        assert all(a <= b + 1e-9 for a, b in pairwise(areas))
