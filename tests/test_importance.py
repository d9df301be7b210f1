"""What mattered, where one knows what did."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from rigorl.analysis.importance import Importance
from rigorl.outside import optuna_ask
from rigorl.outside.importance import LEAST, METHODS, importance
from rigorl.search import Outcome
from rigorl.searches import Search
from rigorl.space import Space

FLAT: dict[str, Any] = {
    "lr": {"kind": "real", "low": 1e-6, "high": 1e-2, "log": True},
    "dummy": {"kind": "real", "low": 0, "high": 1},
    "width": {"kind": "integer", "low": 1, "high": 64},
}
DEEP: dict[str, Any] = {
    **FLAT,
    "net": {"kind": "choice", "of": ["mlp", "cnn"]},
    "kernel": {"kind": "integer", "low": 1, "high": 9, "when": {"net": "cnn"}},
}


def space(of: dict[str, Any]) -> Space:
    return msgspec.convert(of, Space)


def told(of: dict[str, Any], n: int, worth: Callable[[Any], float]) -> list[Outcome]:
    """Return *n* configurations drawn at random, each worth what it is worth."""
    search = msgspec.convert({"space": of, "candidates": n + 1, "sampler": "random"}, Search)
    configs = [optuna_ask.ask(search, number, []) for number in range(1, n + 1)]
    return [Outcome(config, "finished", {0: worth(config)}) for config in configs]


def by_lr(config: Any) -> float:
    return -abs(math.log10(config["lr"]) + 5)


@pytest.mark.parametrize("method", METHODS)
def test_the_one_dimension_that_matters_is_found_and_a_dummy_gets_nearly_nothing(
    method: str,
) -> None:
    found = importance(space(FLAT), told(FLAT, 60, by_lr))
    assert found.candidates == 60
    assert found.shares[method]["lr"] > 0.9
    assert found.shares[method]["dummy"] < 0.05
    assert sum(found.shares[method].values()) == pytest.approx(1, abs=1e-3)


def test_a_log_dimension_is_weighed_by_its_logarithm() -> None:
    """What happens below 1e-4, a hundredth of the range, is half of the logarithms."""

    def worth(config: Any) -> float:
        return float(config["lr"] < 1e-4) + 0.2 * config["dummy"]

    found = importance(space(FLAT), told(FLAT, 60, worth))
    assert found.shares["fANOVA"]["lr"] > 0.9


def test_it_is_said_again_to_the_bit_in_whatever_order() -> None:
    outcomes = told(DEEP, 20, by_lr)
    assert importance(space(DEEP), outcomes) == importance(space(DEEP), outcomes)


def test_a_condition_is_seen_by_one_method_and_told_of_the_other() -> None:
    def worth(config: Any) -> float:
        return -abs(config.get("kernel", 9) - 3.0)

    found = importance(space(DEEP), told(DEEP, 120, worth))
    assert found.shares["PED-ANOVA"]["kernel"] > 0.5
    assert "kernel" not in found.shares["fANOVA"]
    assert "fANOVA says nothing of kernel" in found.note


def test_few_say_nothing_and_so_do_equals() -> None:
    few = importance(space(FLAT), told(FLAT, LEAST - 1, by_lr))
    assert few.shares == {}
    assert few.note == "7 configurations finished, and it takes 8 to say what mattered"
    equal = importance(space(FLAT), told(FLAT, 12, lambda _: 3.0))
    assert equal.shares == {}
    assert "worth the same" in equal.note
    assert importance(space(FLAT), []) == Importance(candidates=0, note=few.note.replace("7", "0"))


def test_only_what_finished_counts_and_each_configuration_once() -> None:
    good = told(FLAT, 20, by_lr)
    stopped = [o._replace(state="pruned", values={0: -100.0}) for o in told(FLAT, 40, by_lr)[20:]]
    off = Outcome({"lr": 1.0, "dummy": 0.0, "width": 1}, "finished", {0: 50.0})
    nan = good[0]._replace(config={**good[0].config, "width": 2}, values={0: math.nan})
    mixed = importance(space(FLAT), [*good, *stopped, *good, off, nan])
    assert mixed == importance(space(FLAT), good)


def test_what_never_varied_is_not_judged() -> None:
    outcomes = [o._replace(config={**o.config, "width": 8}) for o in told(FLAT, 20, by_lr)]
    found = importance(space(FLAT), outcomes)
    assert all("width" not in found.shares[method] for method in METHODS)
    assert "nothing is said of width" in found.note


def test_one_good_among_many_that_are_worst_alike_is_enough_for_ped_anova() -> None:
    outcomes = told(FLAT, 30, lambda _: 0.0)
    best = max(outcomes, key=lambda o: o.config["lr"])
    one = [o._replace(values={0: float(o is best)}) for o in outcomes]
    found = importance(space(FLAT), one).shares["PED-ANOVA"]
    assert len(found) == 3
    assert sum(found.values()) == pytest.approx(1, abs=1e-3)
