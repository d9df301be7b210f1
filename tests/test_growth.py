"""A study may grow, and nothing else."""

from typing import Any

import msgspec
import pytest

from conftest import TINY, tiny
from rigorl.growth import differences
from rigorl.spec import Experiment


def changed(spec: Experiment, path: str, value: Any) -> Experiment:
    raw = msgspec.to_builtins(spec)
    *parents, last = path.split(".")
    at = raw
    for key in parents:
        at = at[int(key)] if isinstance(at, list | tuple) else at[key]
    at[last] = value
    return msgspec.convert(raw, Experiment)


@pytest.mark.parametrize(
    ("path", "value"),
    [("exam.crew", 3), ("placement.strategy", "SPREAD"), ("placement.crew.size", 2)],
)
def test_where_it_is_played_may_change(searching: Experiment, path: str, value: Any) -> None:
    assert differences(searching, changed(searching, path, value)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seeds.test", [2, 1, 0, 3]),
        ("seeds.tune", [10, 11, 12]),
        ("arms.tuned.search.candidates", 40),
        ("arms.third", TINY["arms"]["seeker"]),
        ("transfer", True),
    ],
)
def test_more_arms_seeds_and_candidates_are_growth(
    searching: Experiment, path: str, value: Any
) -> None:
    grown = changed(searching, path, value)
    assert differences(searching, grown) == []
    assert differences(grown, searching) != []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("budget.steps", 40, "`$.budget.steps` was 20 and is 40"),
        ("question", "Something else entirely?", "`$.question` was"),
        ("arms.tuned.search.generation", 3, "`$.arms.tuned.search.generation` was 2 and is 3"),
        ("arms.plain.agent.config", {"rate": 1.0}, "`$.arms.plain.agent.config.rate` was 0.02"),
        (
            "arms.plain.agent.config",
            {},
            "`$.arms.plain.agent.config.rate` was 0.02 and is not there",
        ),
        ("arms.tuned.search", None, "`$.arms.tuned.search` was {"),
        ("seeds.test", [0, 1], "`$.seeds.test` was [0,1,2] and is [0,1]"),
        ("seeds.test", [0, 1, 3], "`$.seeds.test[2]` was 2 and is 3"),
        ("windows", [5], "`$.windows` was [10,100] and is [5]"),
    ],
)
def test_any_other_edit_is_named_with_its_address(
    searching: Experiment, path: str, value: Any, said: str
) -> None:
    (difference,) = differences(searching, changed(searching, path, value))
    assert difference.startswith(said)


def test_an_arm_that_went_and_a_task_more_are_named() -> None:
    arms = {**TINY["arms"], "other": TINY["arms"]["seeker"]}
    assert "`$.arms.other` was {" in differences(tiny(arms=arms), tiny())[0]
    tasks = [*TINY["tasks"], {"name": "more", "env": "helpers.worlds:Target-v0"}]
    assert differences(tiny(), tiny(tasks=tasks))[0].startswith("`$.tasks` was [")
