"""Fronts and hypervolumes: by hand first, then what they must hold to."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna._hypervolume.wfg import compute_hypervolume

from rigorl.analysis.fronts import dominates, front, hypervolume, knee, weighted

TREASURES = [1, 2, 3, 5, 8, 16, 24, 50, 74, 124]
TIMES = [1, 3, 5, 7, 8, 9, 13, 14, 17, 19]
SEA = [(float(t), -float(s)) for t, s in zip(TREASURES, TIMES, strict=True)]
"""Deep-sea treasure (Vamplew et al. 2011): treasure, and minus the time that it takes."""

small = st.integers(-4, 4).map(float)


def points(objectives: int, most: int = 7) -> st.SearchStrategy[list[tuple[float, ...]]]:
    return st.lists(st.tuples(*[small] * objectives), max_size=most)


dimensions = st.integers(1, 4)
clouds = dimensions.flatmap(points)


def test_the_front_by_hand() -> None:
    found = [(0.0, 3.0), (1.0, 2.0), (1.0, 1.0), (3.0, 0.0), (1.0, 2.0), (0.0, 0.0)]
    assert front(found) == [0, 1, 3, 4]
    assert not dominates((1.0, 2.0), (1.0, 2.0))
    assert dominates((1.0, 2.0), (1.0, 1.0))
    assert not dominates((3.0, 0.0), (1.0, 1.0))


def test_volumes_by_hand() -> None:
    assert hypervolume([], (0.0, 0.0)) == 0
    assert hypervolume([(3.0,), (2.0,)], (1.0,)) == 2
    assert hypervolume([(2.0, 1.0), (1.0, 3.0)], (0.0, 0.0)) == 2 + 2
    assert hypervolume([(2.0, 1.0), (9.0, 0.0)], (0.0, 0.0)) == 2  # on the edge, it adds nothing
    assert hypervolume([(1.0, 2.0, 3.0), (2.0, 1.0, 1.0)], (0.0, 0.0, 0.0)) == 6 + 2 - 1
    assert hypervolume([(1.0, 1.0)], (0.0, 0.0), ideal=(2.0, 4.0)) == 1 / 8


def test_the_deep_sea() -> None:
    """A perfect learner has ten policies; one that weighs objectives finds the two corners."""
    assert front(SEA) == list(range(10))
    assert hypervolume(SEA, (0.0, -50.0)) == 4255
    assert hypervolume([SEA[0], SEA[-1]], (0.0, -50.0)) == 3862
    share = hypervolume(SEA, (0.0, -50.0), ideal=(124.0, 0.0))
    assert share == pytest.approx(4255 / (124 * 50))


@given(clouds)
def test_a_volume_of_whole_numbers_counts_cells(found: list[tuple[float, ...]]) -> None:
    O = len(found[0]) if found else 1  # noqa: E741  objectives
    cells = product(range(-4, 4), repeat=O)
    inside = sum(
        any(all(x > c for x, c in zip(p, cell, strict=True)) for p in found) for cell in cells
    )
    assert hypervolume(found, (-4.0,) * O) == inside


@given(
    st.integers(2, 5).flatmap(
        lambda o: st.lists(st.tuples(*[st.floats(0.01, 1)] * o), min_size=1, max_size=8)
    )
)
def test_volumes_are_optunas(found: list[tuple[float, ...]]) -> None:
    peer = compute_hypervolume(-np.array(found), np.zeros(len(found[0])))
    assert hypervolume(found, (0.0,) * len(found[0])) == pytest.approx(peer)


@given(dimensions.flatmap(lambda o: st.tuples(points(o), st.tuples(*[small] * o))))
def test_one_more_point_takes_nothing_away(
    given_: tuple[list[tuple[float, ...]], tuple[float, ...]],
) -> None:
    found, more = given_
    low = (-3.0,) * len(more)
    before, after = hypervolume(found, low), hypervolume([*found, more], low)
    assert after >= before
    covered = any(p == more or dominates(p, more) for p in found)
    outside = any(x <= -3 for x in more)
    assert (after == before) == (covered or outside)


@given(clouds, st.randoms())
def test_neither_order_matters(found: list[tuple[float, ...]], luck: object) -> None:
    low = (-3.3,) * (len(found[0]) if found else 1)
    volume = hypervolume(found, low)
    mixed = list(found)
    luck.shuffle(mixed)  # type: ignore[attr-defined]
    assert hypervolume(mixed, low) == volume  # to the bit
    assert hypervolume([p[::-1] for p in found], low) == pytest.approx(volume)


@given(points(3), st.floats(0.1, 10), st.floats(-5, 5))
def test_a_rescaled_objective_multiplies(
    found: list[tuple[float, ...]], a: float, b: float
) -> None:
    volume = hypervolume(found, (-4.0, -4.0, -4.0))
    other = [(a * x + b, y, z) for x, y, z in found]
    assert hypervolume(other, (-4 * a + b, -4.0, -4.0)) == pytest.approx(a * volume, abs=1e-9)
    share = hypervolume(found, (-4.0,) * 3, (5.0,) * 3)
    again = hypervolume(other, (-4 * a + b, -4.0, -4.0), (5 * a + b, 5.0, 5.0))
    assert share == pytest.approx(again, abs=1e-9)


@given(clouds)
def test_a_front_is_what_no_other_point_beats(found: list[tuple[float, ...]]) -> None:
    there = front(found)
    assert bool(there) == bool(found)
    best = [found[place] for place in there]
    assert not any(dominates(a, b) for a in best for b in best)
    lost = [p for place, p in enumerate(found) if place not in there]
    assert all(any(dominates(b, p) for b in best) for p in lost)
    assert front(best) == list(range(len(best)))
    low = (-5.0,) * (len(found[0]) if found else 1)
    assert hypervolume(best, low) == pytest.approx(hypervolume(found, low))


def test_the_knee_by_hand() -> None:
    """Scaled: (1, 0), (0.9, 0.5), (0.4, 0.8), (0, 1); beaten ones do not count."""
    found = [(10.0, 0.0), (9.0, 5.0), (4.0, 8.0), (0.0, 10.0), (8.9, 4.9), (-90.0, -90.0)]
    assert knee(found) == 1
    assert knee([(1.0, 0.0), (0.0, 1.0)]) == 0  # nothing between the ends: the first
    assert knee([(1.0, 2.0), (1.0, 2.0), (0.0, 0.0)]) == 0
    assert knee([(0.0, 5.0, 1.0), (2.0, 4.0, 1.0), (3.0, 0.0, 1.0)]) == 1  # the third tells nothing


@given(clouds.filter(bool), st.integers(-3, 3))
def test_the_knee_is_of_the_front_in_any_unit(found: list[tuple[float, ...]], b: int) -> None:
    assert knee(found) in front(found)
    assert knee([(2.0**b * p[0], *p[1:]) for p in found]) == knee(found)


def test_weights_by_hand() -> None:
    found = [(10.0, 0.0), (9.0, 5.0), (0.0, 10.0)]
    assert weighted(found, (1.0, 0.0)) == 0
    assert weighted(found, (1.0, 1.0)) == 1
    assert weighted(found, (1.0, 3.0)) == 2
    assert weighted([(1.0, 0.0), (0.0, 1.0)], (2.0, 2.0)) == 0
