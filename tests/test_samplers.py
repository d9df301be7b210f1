"""Samplers that learn: what each goes by, and that all beat chance where there is a slope."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigorl import evolution
from rigorl.cube import at, place
from rigorl.hunting import Size, Try, bracket, follow, hunt
from rigorl.outside import optuna_ask
from rigorl.replaying import Replay, replay
from rigorl.search import Outcome
from rigorl.searches import Prune, Search
from rigorl.space import Choice, Integer, Over, Real, Space, fits
from rigorl.tables import Lookup, Table

NUMBERS: Space = {
    "lr": Real(low=1e-5, high=1e-1, log=True),
    "clip": Real(low=0, high=0.5),
    "epochs": Integer(low=1, high=9),
    "width": Integer(low=4, high=64, log=True),
}
MIXED: Space = {
    "net": Choice(of=("small", "deep")),
    "lr": NUMBERS["lr"],
    "depth": Integer(low=1, high=4, when={"net": "deep"}),
}
HYPERBAND = Prune(kind="hyperband", grace=0.1)
RUNGS = 9


def worth(space: Space, config: Any) -> float:
    """One peak, away from the middle."""
    return -math.fsum(
        (place(over, config[name]) - 0.8) ** 2 for name, over in space.items() if name in config
    )


def hunted(how: Search, luckless: int = -1) -> list[Outcome]:
    """Hunt where a candidate is worth the same at each rung; one of them fails."""
    told: list[Outcome] = []

    def propose(number: int, told: Sequence[Outcome]) -> Any:
        if number == 0:
            return {name: at(over, 0.5) for name, over in how.space.items() if not over.when}
        return optuna_ask.ask(how, number, told)

    def answer(one: Try) -> Outcome:
        if one.number == luckless:
            return Outcome(one.config, "failed", {0: 9.0})
        stop = min(one.bars, default=RUNGS - 1) if math.inf in one.bars.values() else RUNGS - 1
        value = worth(how.space, one.config)
        state = "finished" if stop == RUNGS - 1 else "pruned"
        return Outcome(one.config, state, dict.fromkeys(range(stop + 1), value))  # type: ignore[arg-type]

    follow(hunt(how, Size(1, RUNGS), propose, told), answer)
    return told


OVERS = st.one_of(
    st.just(Real(low=-3, high=5)),
    st.just(NUMBERS["lr"]),
    st.just(NUMBERS["epochs"]),
    st.just(NUMBERS["width"]),
    st.just(Choice(of=(True, False, "x"))),
)


@given(OVERS, st.floats(0, 1))
def test_a_place_is_a_value_and_a_value_has_its_place(over: Over, x: float) -> None:
    value = at(over, x)
    assert over.takes(value)
    there = place(over, value)
    assert 0 <= there <= 1
    assert at(over, there) == (pytest.approx(value) if isinstance(over, Real) else value)


def test_the_ends_of_the_cube_are_those_of_the_space() -> None:
    for over in (*NUMBERS.values(), Choice(of=(1, 2, 3))):
        ends = over.of[::2] if isinstance(over, Choice) else (over.low, over.high)
        assert (at(over, 0.0), at(over, 1.0)) == pytest.approx(ends)
    counted = [at(NUMBERS["epochs"], x) for x in np.linspace(0.001, 0.999, 9_000)]
    assert all(counted.count(n) == pytest.approx(1_000, abs=10) for n in range(1, 10))


# Differential evolution


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.integers(0, 99))
def test_parents_that_are_all_alike_have_no_other_child(x: list[float], seed: int) -> None:
    same_D = np.array(x)
    rng = np.random.default_rng(seed)
    np.testing.assert_allclose(evolution.child(same_D, np.tile(same_D, (5, 1)), rng), same_D)


@given(st.integers(0, 10_000))
def test_children_stay_in_the_cube_and_take_from_the_mutant(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parents_PD = np.round(rng.random((3, 4)))  # at corners, so that many mutants leave the cube
    target_D = np.full(4, 0.3)
    child_D = evolution.child(target_D, parents_PD, rng)
    assert ((child_D >= 0) & (child_D <= 1)).all()
    assert (child_D != target_D).any()


def test_a_mutant_is_one_parent_and_half_the_way_between_two_others() -> None:
    parents_PD = np.array([[0.5], [0.2], [0.4]])
    found = {
        round(float(evolution.child(np.array([0.9]), parents_PD, np.random.default_rng(s))[0]), 6)
        for s in range(200)
    }
    assert found == {0.4, 0.6, 0.15, 0.25, 0.55}


def test_a_bracket_is_bred_from_the_best_at_the_next_lower_stop() -> None:
    how = Search(space={"x": Real(low=0, high=1)}, candidates=99, sampler="dehb", prune=HYPERBAND)
    first = bracket(HYPERBAND, RUNGS, 0)
    second = bracket(HYPERBAND, RUNGS, first.candidates)
    assert (first, second) == ((9, (0, 2)), (5, (2,)))
    worths = {0.1: 9.0, 0.2: 8.0, 0.3: 7.0, 0.4: 6.0, 0.5: 5.0, 0.9: 1.0, 0.91: 1.0, 0.92: 1.0}
    told = [Outcome({"x": x}, "pruned", {0: value}) for x, value in worths.items()]
    told.append(Outcome({"x": 0.2}, "finished", dict.fromkeys(range(9), 0.0)))
    asked = [optuna_ask.ask(how, 9 + n, told)["x"] for n in range(5)]
    # One dimension, so a child is its mutant: five parents from 0.1 to 0.5 lead no farther than
    # -0.1 and 0.7, and the worst three are among none of them.
    lead = {a + (b - c) / 2 for a in range(1, 6) for b in range(1, 6) for c in range(1, 6)}
    inside = [x for x in asked if round(x * 20) / 2 in lead and abs(x * 20 - round(x * 20)) < 1e-9]
    assert len(inside) >= 4, asked
    assert max(inside) <= 0.7 + 1e-9


def test_who_failed_is_no_parent() -> None:
    how = Search(space={"x": Real(low=0, high=1)}, candidates=99, sampler="dehb", prune=HYPERBAND)
    told = [Outcome({"x": 0.5}, "pruned", {0: 1.0})] * 8
    told.append(Outcome({"x": 0.5}, "finished", dict.fromkeys(range(9), 0.0)))
    failed = [Outcome({"x": 0.1}, "failed", {0: 9.0, 2: 9.0})] * 9
    for number in range(18, 23):
        assert optuna_ask.ask(how, number, [*told, *failed])["x"] == pytest.approx(0.5)


# All of them

ASKED = [
    ("cmaes", NUMBERS, None),
    ("bohb", MIXED, HYPERBAND),
    ("dehb", MIXED, HYPERBAND),
]


@pytest.mark.parametrize(("sampler", "space", "prune"), ASKED)
def test_a_hunt_told_again_is_the_same_hunt(sampler: Any, space: Space, prune: Any) -> None:
    law = "lr > 0.00002"
    how = Search(space=space, candidates=40, sampler=sampler, prune=prune, constraints=(law,))
    told = hunted(how, luckless=5)
    assert told == hunted(how, luckless=5)
    assert all(fits(space, o.config) and o.config["lr"] > 2e-5 for o in told[1:])
    other = hunted(msgspec.structs.replace(how, seed=1))
    assert [o.config for o in told[1:]] != [o.config for o in other[1:]]
    configs = {str(o.config) for o in told}
    assert len(configs) >= 30


def test_what_was_asked_before_changes_no_answer() -> None:
    for sampler, space, prune in (("tpe", MIXED, None), *ASKED):
        how = Search(space=space, candidates=40, sampler=sampler, prune=prune)
        told = hunted(how)[:27]
        asked = [optuna_ask.ask(how, number, told) for number in (27, 28)]
        fresh = [Outcome(dict(o.config), *o[1:]) for o in told]
        alike = msgspec.structs.replace(how, space=dict(space))
        assert [optuna_ask.ask(alike, number, fresh) for number in (28, 27)] == asked[::-1]


def test_cmaes_goes_by_who_was_better_whatever_the_scale() -> None:
    how = Search(space=NUMBERS, candidates=40, sampler="cmaes", generation=5)
    told = hunted(how, luckless=7)[:25]
    scaled = [
        o._replace(values={r: math.exp(40 * v) - 7 for r, v in o.values.items()}) for o in told
    ]
    assert optuna_ask.ask(how, 25, told) == optuna_ask.ask(how, 25, scaled)
    upside_down = [o._replace(values={r: -v for r, v in o.values.items()}) for o in told]
    assert optuna_ask.ask(how, 25, told) != optuna_ask.ask(how, 25, upside_down)


def test_cmaes_holds_one_that_failed_for_the_worst() -> None:
    how = Search(space=NUMBERS, candidates=40, sampler="cmaes", generation=5)
    told = hunted(how)[:10]
    best = max(range(5, 10), key=lambda n: told[n].value)
    worst = min(range(5, 10), key=lambda n: told[n].value)
    failed = [*told]
    failed[worst] = told[worst]._replace(state="failed", values={0: 1e9})
    assert optuna_ask.ask(how, 10, failed) == optuna_ask.ask(how, 10, told)
    failed[best] = told[best]._replace(state="failed")
    assert optuna_ask.ask(how, 10, failed) != optuna_ask.ask(how, 10, told)
    nothing = [*told[:5], *(o._replace(state="failed", values={}) for o in told[5:])]
    assert fits(NUMBERS, optuna_ask.ask(how, 10, nothing))


def test_bohb_models_the_last_rung_that_enough_have_reached() -> None:
    """At rung 2 what is high is good, at rung 0 what is low: three candidates are too few."""
    how = Search(space={"x": Real(low=0, high=1)}, candidates=99, sampler="bohb", prune=HYPERBAND)
    xs = np.linspace(0.02, 0.98, 25)
    seen = [Outcome({"x": float(x)}, "pruned", {0: -float(x)}) for x in xs]
    few = [o._replace(values={0: o.values[0], 2: o.config["x"]}) for o in seen[:2]]
    enough = [o._replace(values={0: o.values[0], 2: o.config["x"]}) for o in seen[::8]]
    low = [optuna_ask.ask(how, n, [*few, *seen[2:]])["x"] for n in range(25, 55)]
    high = [optuna_ask.ask(how, n, [*enough, *seen])["x"] for n in range(25, 55)]
    assert np.mean(low) + 0.2 < np.mean(high)
    assert sum(a == b for a, b in zip(low, high, strict=True)) in range(4, 17)  # a third by chance


REFUSED = [
    ({"sampler": "cmaes", "space": MIXED}, "always count, but net is a choice"),
    (
        {"sampler": "cmaes", "space": {"lr": NUMBERS["lr"], "n": Integer(low=1, high=2, when={"lr": 1e-3})}},
        "n hangs on another",
    ),
    ({"sampler": "cmaes", "generation": 3}, "must be at least 4 with cmaes"),
    ({"sampler": "bohb"}, "bohb must have .* but has none"),
    ({"sampler": "dehb", "prune": Prune(kind="asha")}, "dehb must have .* but has asha"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_a_sampler_cannot_do_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Search(**{"space": NUMBERS, "candidates": 9, **changes})


def landscape(configs: int) -> Table:
    """A peak in four dimensions, climbed over nine rungs; seeds scatter by a tenth of its width."""
    rng = np.random.default_rng(3)
    space: Space = {name: Real(low=0, high=1) for name in "abcd"}
    rows = [{name: float(x) for name, x in zip(space, rng.random(4), strict=True)} for _ in range(configs)]  # fmt: skip
    noise = rng.normal(scale=0.02, size=(configs, 4, RUNGS))
    values = [
        [[worth(space, row) * (1 + (RUNGS - r) / RUNGS) + float(noise[c, s, r]) for r in range(RUNGS)] for s in range(4)]
        for c, row in enumerate(rows)
    ]  # fmt: skip
    parts = {"study": "peak", "arm": "a", "space": space, "steps": [10 * (r + 1) for r in range(RUNGS)],
             "seeds": [0, 1, 2, 3], "configs": rows, "values": values}  # fmt: skip
    return msgspec.convert(msgspec.to_builtins(parts), Table)


def test_every_sampler_that_learns_beats_chance_on_a_smooth_peak() -> None:
    table = landscape(300)
    rivals = {
        "tpe": Lookup(table="t", seeds=2, candidates=40, sampler="tpe"),
        "cmaes": Lookup(table="t", seeds=2, candidates=40, sampler="cmaes", generation=6),
        "bohb": Lookup(table="t", seeds=2, candidates=44, sampler="bohb", prune=HYPERBAND),
        "dehb": Lookup(table="t", seeds=2, candidates=44, sampler="dehb", prune=HYPERBAND),
    }
    chance = {
        "chance": Lookup(table="t", seeds=2, candidates=40),
        "hyperband": Lookup(table="t", seeds=2, candidates=44, prune=HYPERBAND),
    }
    what = Replay(
        name="samplers",
        question="Do they learn?",
        tables={"t": "t"},
        searches={**rivals, **chance},
        repeats=20,
    )
    found = replay(what, {"t": table}, optuna_ask.ask)
    for name, how in rivals.items():
        other = "hyperband" if how.prune else "chance"
        ahead = found.differences[f"{name} - {other}"]
        assert ahead.low is not None
        assert ahead.low > 0, (name, ahead)
