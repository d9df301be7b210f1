"""What may be chosen: conditions, laws, grids, and what each sampler makes of them."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigorl import space
from rigorl.errors import SpecError
from rigorl.outside import optuna_ask
from rigorl.search import Outcome
from rigorl.searches import Search
from rigorl.space import Choice, Integer, Real

DEEP: space.Space = {
    "width": Integer(low=8, high=32, levels=3, when={"net": ("wide", "both")}),
    "net": Choice(of=("linear", "wide", "both"), when={"learn": True}),
    "learn": Choice(of=(True, False)),
    "lr": Real(low=1e-4, high=1e-2, log=True, levels=3),
}


def search(**changes: Any) -> Search:
    return msgspec.convert({"space": msgspec.to_builtins(DEEP), "candidates": 5, **changes}, Search)


def test_a_dimension_counts_where_those_it_hangs_on_say_so() -> None:
    whole = {"width": 8, "net": "wide", "learn": True, "lr": 1e-3}
    assert space.reduced(DEEP, whole) == whole
    assert space.reduced(DEEP, {**whole, "net": "linear"}).keys() == {"net", "learn", "lr"}
    assert space.reduced(DEEP, {**whole, "learn": False}) == {"learn": False, "lr": 1e-3}
    assert list(space.reduced(DEEP, whole)) == list(DEEP)


def test_a_configuration_fits_if_it_says_what_counts_and_no_more() -> None:
    assert space.fits(DEEP, {"learn": False, "lr": 1e-3})
    assert not space.fits(DEEP, {"learn": False, "lr": 1e-3, "net": "linear"})
    assert not space.fits(DEEP, {"learn": True, "lr": 1e-3})
    assert not space.fits(DEEP, {"learn": False, "lr": 1.0})
    assert not space.fits(DEEP, {"learn": False, "lr": 1e-3, "else": 1})


def test_one_and_true_are_not_the_same() -> None:
    assert not Choice(of=(1, 2)).takes(True)
    assert not Choice(of=(True,)).takes(1)
    assert not Integer(low=0, high=1).takes(True)
    assert not Integer(low=0, high=3).takes(1.5)


def test_the_grid_by_hand() -> None:
    found = list(space.grid(DEEP))
    # learn: false, or one of linear, wide x 3, both x 3; times three rates
    assert len(found) == (1 + 1 + 3 + 3) * 3
    assert len({str(config) for config in found}) == len(found)
    assert all(space.fits(DEEP, config) for config in found)
    assert sorted({config["lr"] for config in found}) == pytest.approx([1e-4, 1e-3, 1e-2])


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e6), st.integers(2, 50), st.booleans())
def test_levels_rise_from_one_end_exactly_to_the_other(
    low: float, times: float, levels: int, log: bool
) -> None:
    over = Real(low=low, high=low * times, log=log, levels=levels)
    values = over.grid()
    assert (values[0], values[-1], len(values)) == (low, low * times, levels)
    assert all(over.takes(value) for value in values)
    assert values == sorted(values)


def test_laws_compare_what_counts() -> None:
    assert space.holds("4 <= width <= 8 * 2", {"width": 16})
    assert not space.holds("width < 2 * 8", {"width": 16})
    assert space.holds("-lr * 2 != 1 + lr", {"lr": 1.0})
    assert space.holds("net == 'wide'", {"net": "wide"})
    assert space.holds("width < lr", {"lr": 1.0})  # width does not count
    assert not space.holds("width / lr > 1", {"width": 1, "lr": 0}), "what has no value is not kept"
    assert not space.compares("net < 2", {"net": "wide"})
    assert space.compares("width / lr > 1", {"width": 1, "lr": 0})


@pytest.mark.parametrize(
    "law",
    [
        "width",
        "width <",
        "__import__('os') > 1",
        "width.real > 1",
        "a[0] > 1",
        "w < (1 if w else 2)",
    ],
)
def test_a_law_is_a_comparison_and_nothing_else(law: str) -> None:
    with pytest.raises(ValueError, match="must compare numbers and names"):
        space.names_of(law)


REFUSED = [
    ({"space": {"a": {"kind": "choice", "of": [1], "when": {"b": 1}}}}, "says 'b'; the others are none"),
    ({"space": {"a": {"kind": "choice", "of": [1], "when": {"a": 1}}}}, "says 'a'"),
    (
        {"space": {n: {"kind": "choice", "of": [1], "when": {m: 1}} for n, m in ("ab", "ba")}},
        "must not lead in a circle, but does for a, b",
    ),
    (
        {"space": {
            "a": {"kind": "choice", "of": [1, 2]},
            "b": {"kind": "choice", "of": [1], "when": {"a": [2, 3]}},
        }},
        "b counts when a is 3, which it never is",
    ),
    ({"constraints": ["depth > 1"]}, "names depth; the space has width, net"),
    ({"constraints": ["1 > 2"]}, "names none"),
    ({"enqueue": [{"depth": 1}]}, "depth: 1 is none"),
    ({"enqueue": [{"width": 64}]}, "width: 64 is none"),
    ({"enqueue": [{"width": 8}], "candidates": 1}, "but are 1 for 2"),
    ({"sampler": "grid", "candidates": 26}, "at most 25"),
    ({"sampler": "grid", "space": {"a": {"kind": "real", "low": 1, "high": 2}}}, "but a does not"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_cannot_be_searched_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        search(**changes)


def outcome(config: dict[str, Any]) -> Outcome:
    return Outcome(config, "finished", {0: -(math.log10(config["lr"]) ** 2)})


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp"])
def test_every_sampler_keeps_conditions_and_laws_and_answers_a_question_once(sampler: str) -> None:
    how = search(sampler=sampler, constraints=["width < 30", "lr > 0.0002"], candidates=30)
    told: list[Outcome] = []
    for number in range(1, 13):
        config = optuna_ask.ask(how, number, told)
        assert how.keeps(config), config
        assert config == optuna_ask.ask(how, number, told)
        if number % how.generation == 0:
            told.append(outcome(dict(config)))
    configs = [str(optuna_ask.ask(how, number, told)) for number in range(13, 19)]
    assert len(set(configs)) == 6
    other = search(sampler=sampler, constraints=how.constraints, candidates=30, seed=1)
    assert str(optuna_ask.ask(other, 13, told)) not in configs


def test_a_grid_is_asked_point_by_point_after_what_was_named() -> None:
    how = search(sampler="grid", candidates=20, constraints=["width < 30"], enqueue=[{"lr": 1e-3}])
    asked = [optuna_ask.ask(how, number, []) for number in range(2, 20)]
    assert asked == [config for config in space.grid(DEEP) if how.keeps(config)][:18]


def test_points_of_a_sequence_are_spread_better_than_chance_would() -> None:
    how = search(space={"x": {"kind": "real", "low": 0, "high": 1}}, sampler="qmc", candidates=17)
    found = sorted(optuna_ask.ask(how, number, [])["x"] for number in range(1, 17))
    assert [int(x * 16) for x in found] == list(range(16))


def test_laws_that_leave_nothing_are_found_out() -> None:
    with pytest.raises(SpecError, match="random has found nothing in 100 tries"):
        optuna_ask.ask(search(sampler="random", constraints=["lr > 1"]), 1, [])


def test_a_setting_within_a_setting_has_a_name_with_a_dot() -> None:
    settings = {"lr": 0.1, "method": {"name": "ewc", "strength": 1.0}}
    merged = space.merged(settings, {"method.strength": 3.0, "lr": 0.2})
    assert merged == {"lr": 0.2, "method": {"name": "ewc", "strength": 3.0}}
    assert settings["method"] == {"name": "ewc", "strength": 1.0}
    assert space.setting(merged, "method.strength") == 3.0
    for name in ("method.decay", "method.strength.deep", "nothing"):
        with pytest.raises(KeyError):
            space.setting(merged, name)
