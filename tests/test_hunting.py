"""Hunts by hand: who is played on what, who goes no further, and what it rests on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigorl import search
from rigorl.hunting import Size, Try, bracket, follow, hunt
from rigorl.search import Outcome
from rigorl.searches import Prune, Search
from rigorl.space import Real

SPACE = {"x": Real(low=0.0, high=1000.0)}
Curve = Callable[[float, int, int], float]
"""What the configuration x is worth on a seed at a rung."""


def answer(curve: Curve, size: Size, one: Try, fails: Sequence[float] = ()) -> Outcome:
    """Return what comes of *one* try where `curve` says what everything is worth."""
    x = one.config["x"]
    if x in fails:
        return Outcome(one.config, "failed", {})
    rungs = range(size.rungs)
    means = [search.mean([curve(x, seed, rung) for seed in one.seeds]) for rung in rungs]
    end = next((r for r in rungs if means[r] < one.bars.get(r, -1e99)), None)
    seen = rungs if end is None else range(end + 1)
    return Outcome(
        one.config,
        "finished" if end is None else "pruned",
        {rung: means[rung] for rung in seen},
        tuple(curve(x, seed, seen[-1]) for seed in one.seeds),
        len(seen) * len(one.seeds),
        tuple({rung: curve(x, seed, rung) for rung in seen} for seed in one.seeds),
    )


def told(
    prune: Mapping[str, Any] | None,
    xs: Sequence[float],
    size: Size,
    curve: Curve,
    generation: int = 4,
    fails: Sequence[float] = (),
) -> tuple[list[Outcome], list[Try]]:
    """Hunt among *xs*; return what came of each, and all that was played."""
    how = Search(
        space=SPACE,
        candidates=len(xs),
        generation=generation,
        prune=None if prune is None else Prune(**prune),
    )
    found: list[Outcome] = []
    played: list[Try] = []

    def look(one: Try) -> Outcome:
        played.append(one)
        return answer(curve, size, one, fails)

    follow(hunt(how, size, lambda number, _: {"x": xs[number]}, found), look)
    return found, played


def by_x(x: float, seed: int, rung: int) -> float:
    """Better from the first, and better later, on every seed."""
    return x + seed / 10 + rung


def states(found: Sequence[Outcome]) -> list[str]:
    return [outcome.state for outcome in found]


def test_without_pruning_all_are_played_on_all_seeds_a_generation_at_a_time() -> None:
    found, played = told(None, [3, 1, 2], Size(2, 3), by_x, generation=2)
    assert states(found) == ["finished"] * 3
    assert [(one.number, one.seeds, dict(one.bars)) for one in played] == [
        (0, (0, 1), {}),
        (1, (0, 1), {}),
        (2, (0, 1), {}),
    ]
    assert found[0].by_seed == (5.0, 5.1)


def test_whoever_cannot_be_proposed_yet_leaves_the_hunt_open() -> None:
    how, found = Search(space=SPACE, candidates=4, generation=2), list[Outcome]()
    known = {0: {"x": 1.0}, 1: {"x": 2.0}, 2: {"x": 3.0}}
    size = Size(1, 1)
    follow(hunt(how, size, lambda n, _: known.get(n), found), lambda one: answer(by_x, size, one))
    assert len(found) == 2, "the second generation lacks one, and is not played in part"


def test_curves_are_held_to_those_of_earlier_generations_only() -> None:
    found, _ = told({"keep": 0.5, "grace": 0.25}, [5, 1, 0, 9], Size(1, 4), by_x, generation=2)
    assert states(found) == ["finished", "finished", "pruned", "finished"]
    assert max(found[2].values) == 1, "the first rung after the grace"


def test_asha_looks_ever_less_often_and_keeps_one_in_eta() -> None:
    prune = Prune(kind="asha", eta=3, grace=0.1)
    assert search.looks(prune, 10) == [0, 2, 8]
    assert search.looks(prune, 27) == [2, 8], "not at the last, where there is nothing to save"
    found, _ = told({"kind": "asha", "eta": 3, "grace": 0.1}, [9, 8, 7, 6], Size(1, 10), by_x, 3)
    assert found[3].state == "pruned"
    assert max(found[3].values) == 0


def test_brackets_are_those_of_the_paper() -> None:
    """Li et al. 2018, table 1, for R = 81 and eta = 3; and the card's, for R = 27."""
    prune = Prune(kind="hyperband", eta=3, grace=1 / 81)
    first, sizes = 0, []
    for _ in range(5):
        found = bracket(prune, 81, first)
        sizes.append((found.candidates, [stop + 1 for stop in found.stops]))
        first += found.candidates
    assert sizes == [
        (81, [1, 3, 9, 27]),
        (34, [3, 9, 27]),
        (15, [9, 27]),
        (8, [27]),
        (5, []),
    ]
    assert bracket(prune, 81, first) == bracket(prune, 81, 0), "and again from the first"
    card = Prune(kind="hyperband", eta=3, grace=1 / 27)
    assert [bracket(card, 27, first).candidates for first in (0, 27, 39, 45)] == [27, 12, 6, 4]


def test_hyperband_halves_a_bracket_and_lets_the_best_go_on() -> None:
    xs = list(range(9))
    found, played = told({"kind": "hyperband", "eta": 3, "grace": 1 / 9}, xs, Size(2, 9), by_x)
    assert [len([one for one in played if min(one.bars, default=9) == s]) for s in (0, 2)] == [9, 3]
    assert states(found) == ["pruned"] * 8 + ["finished"]
    assert [max(o.values) for o in found] == [0] * 6 + [2, 2, 8]
    assert all(one.seeds == (0, 1) for one in played)


def test_who_fails_is_not_let_on_and_another_takes_its_place() -> None:
    xs = list(range(9))
    found, _ = told(
        {"kind": "hyperband", "eta": 3, "grace": 1 / 9}, xs, Size(1, 9), by_x, fails=[8]
    )
    assert states(found) == ["pruned"] * 7 + ["finished", "failed"]
    everybody, _ = told(
        {"kind": "hyperband", "eta": 3, "grace": 1 / 9}, xs, Size(1, 9), by_x, fails=xs
    )
    assert states(everybody) == ["failed"] * 9


def test_a_race_ends_for_whoever_is_worse_on_each_of_four_seeds() -> None:
    found, played = told({"kind": "racing", "p": 0.1}, [5, 1], Size(6, 1), by_x)
    assert states(found) == ["finished", "pruned"]
    assert len(found[1].by_seed) == 4, "P = 1/16 at the fourth, and 1/8 at the third"
    assert found[1].steps == 4
    assert [one.seeds for one in played if one.number == 1] == [(0,), (1,), (2,), (3,)]


def test_nobody_is_pruned_who_played_all_its_seeds() -> None:
    found, played = told({"kind": "racing", "p": 0.05}, [5, 1, 2, 3], Size(5, 1), by_x)
    assert len(played) == 20
    assert states(found) == ["finished"] * 4, (
        "P < 0.05 at the fifth seed, with nothing left to save"
    )


def test_a_race_is_run_against_the_winner_of_earlier_generations_too() -> None:
    found, _ = told({"kind": "racing"}, [9, 5, 6, 1], Size(5, 1), by_x, generation=1)
    assert states(found) == ["finished", "pruned", "pruned", "pruned"]


def test_a_race_that_is_close_goes_to_the_end() -> None:
    def crossed(x: float, seed: int, rung: int) -> float:
        return x if seed % 2 else -x

    found, _ = told({"kind": "racing"}, [5, 1], Size(6, 1), crossed)
    assert states(found) == ["finished", "finished"]


def test_both_stops_a_candidate_on_a_seed_by_the_curves_of_that_seed() -> None:
    def second_is_hard(x: float, seed: int, rung: int) -> float:
        return x + rung - 100 * seed

    no_race = {"kind": "both", "grace": 0.25, "keep": 0.5, "p": 0.01}
    found, _ = told(no_race, [5, 6, 0], Size(5, 4), second_is_hard, 2)
    assert states(found) == ["finished", "finished", "pruned"]
    assert len(found[2].curves) == 1
    assert max(found[2].values) == 1
    fine, _ = told(no_race, [5, 6, 6], Size(5, 4), second_is_hard, 2)
    assert fine[2].state == "finished", "the second seed is hard for everybody"


kinds = st.sampled_from(["curve", "asha", "hyperband", "racing", "both"])


@given(
    kinds,
    st.lists(st.integers(0, 1000), min_size=2, max_size=14, unique=True),
    st.integers(1, 5),
    st.integers(1, 9),
)
def test_where_the_better_is_better_everywhere_the_best_is_never_pruned(
    kind: str, xs: list[int], generation: int, rungs: int
) -> None:
    size = Size(5, rungs)
    found, played = told({"kind": kind, "grace": 0.2}, xs, size, by_x, generation)
    assert len(found) == len(xs)
    best = search.best(found)
    if kind != "hyperband":
        assert best is not None
        assert best.config["x"] == max(xs)
    spent = sum(outcome.steps for outcome in found)
    assert spent <= len(xs) * size.seeds * size.rungs
    waves = [(one.number, one.seeds) for one in played]
    assert kind == "hyperband" or len(set(waves)) == len(waves), "nothing is played twice"


@pytest.mark.parametrize("kind", ["curve", "asha", "hyperband", "racing", "both"])
def test_a_hunt_that_is_told_again_goes_the_same_way(kind: str) -> None:
    xs = [(7 * n) % 31 for n in range(24)]

    def noisy(x: float, seed: int, rung: int) -> float:
        return x + (x * 13 + seed * 7 + rung * 3) % 11

    once = told({"kind": kind, "grace": 0.2}, xs, Size(5, 9), noisy)
    assert once == told({"kind": kind, "grace": 0.2}, xs, Size(5, 9), noisy)
    assert {"pruned", "finished"} == set(states(once[0]))
