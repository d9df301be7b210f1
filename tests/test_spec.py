"""Each mistake in a YAML file, and what is said of it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import TINY, tiny
from rigorl import playable
from rigorl.errors import SpecError
from rigorl.outside import yaml_file

GOOD = """
name: a
question: Is this a question?
arms:
  x: {agent: {name: helpers.seeker, config: {rate: 0.1}}}
tasks: [{name: t, env: helpers.worlds:Target-v0}]
budget: {steps: 10, exam_every: 5}
seeds: {test: [0], tune: [7]}
"""
SEARCH = "x: {search: {candidates: 2, space: {%s}}, "
LAWFUL = (
    "x: {search: {candidates: 2, constraints: ['%s'], space: {rate: {kind: real, low: 0.1, "
    "high: 0.2}, kind: {kind: choice, of: [a, b]}}}, "
)
PRUNED = SEARCH % "rate: {kind: choice, of: [1]}}, prune: {%s"


def mistake(old: str, new: str, message: str, at: str) -> Any:
    return pytest.param(old, new, message, at, id=new)


MISTAKES = [
    mistake("steps: 10", "steps: 0", "must be `int` >= 1, but is 0", "$.budget.steps"),
    mistake("steps: 10", "steps: 10, stpes: 1", "did you mean 'steps'", "$.budget"),
    mistake("steps: 10", "steps: ten", "must be `int`, but is `str` 'ten'", "$.budget.steps"),
    mistake("steps: 10, ", "", "'steps' must be given", "$.budget"),
    mistake("exam_every: 5", "exam_every: 50", "at most steps, but is 50 > 10", "$.budget"),
    mistake("exam_every: 5", "exam_every: 5, dense: [4, 2]", "dense must rise", "$.budget"),
    mistake("exam_every: 5", "exam_every: 5, num_envs: 3", "multiple of num_envs", "$.budget"),
    mistake("tune: [7]", "tune: [0]", "must not share a seed, but both have [0]", "$.seeds"),
    mistake("test: [0]", "test: [0, 0]", "must not repeat a seed", "$.seeds"),
    mistake("test: [0]", "test: []", "length >= 1", "$.seeds.test"),
    mistake("name: a", "name: a\nname: b", "a key may be given once, but 'name'", ""),
    mistake("name: a", "name: A", "matching regex", "$.name"),
    mistake("question: Is this a question?", "question: no", "length >= 10", "$.question"),
    mistake("Is this a question?", "[unclosed", "a spec must be YAML", ""),
    mistake("{agent: {name: helpers.seeker, config: {rate: 0.1}}}", "", "is empty", "$.arms.x"),
    mistake("x: {agent", "x: {agnet: 1, agent", "did you mean 'agent'", "$.arms.x"),
    mistake("x: {", "x: {after: y, ", "after must name an arm, but is 'y'", "$"),
    mistake("x: {", "x: {after: x, ", "x after x", "$"),
    mistake("x: {", SEARCH % "rate: {kind: real, low: 2, high: 1}", "below high", "$.arms.x.search.space.rate"),
    mistake("x: {", SEARCH % "rate: {kind: real, low: 0, high: 1, log: true}", "above 0 on a log", "$.arms.x.search.space.rate"),
    mistake("x: {", SEARCH % "rate: {kind: choice, of: []}", "length >= 1", "$.arms.x.search.space.rate.of"),
    mistake("x: {", LAWFUL % "rate < kind", "numbers with numbers, but 'rate < kind' does not", "$.arms.x.search"),
    mistake("x: {", PRUNED % "kind: curve, grace: 0.9", "has 2 exams and a grace of 0.9", "$"),
    mistake("x: {", PRUNED % "kind: hyperband, grace: 0.5", "must find an exam to stop at", "$"),
    mistake("x: {", PRUNED % "kind: racing", "at least 5 tuning seeds, but arm 'x' has 1", "$"),
    mistake("x: {", PRUNED % "kind: racing, p: 0.2", "must have at least 5 tuning seeds", "$"),
    mistake("x: {", PRUNED % "kidn: both", "did you mean 'kind'", "$.arms.x.search.prune"),
    mistake("name: t,", "name: t, random: 1,", "given together", "$.tasks[0]"),
    mistake("name: t,", "name: t, random: 1, reference: 1,", "must differ", "$.tasks[0]"),
    mistake("name: t,", "name: t, random: 1, reference: y,", "must be a number or an arm", "$"),
    mistake("name: t,", "name: t, random: .nan, reference: 1,", "must be finite", "$.tasks[0]"),
    mistake("name: a", "transfer: true\nname: a", "must be between tasks, but there is one, 't'", "$"),
    mistake("env: helpers", "env: helpers.worlds:Target-v0}, {name: t, env: helpers", "task names must differ", "$"),
]  # fmt: skip
UNPLAYABLE = [
    mistake("helpers.seeker", "ppp", "did you mean 'ppo'", "$.arms.x.agent.name"),
    mistake("helpers.seeker", "rigorl.seeds", "lacks Config, make", "$.arms.x.agent.name"),
    mistake("helpers.seeker", ".ppo", "but is '.ppo'", "$.arms.x.agent.name"),
    mistake("helpers.seeker", "no.such", "a dotted module", "$.arms.x.agent.name"),
    mistake("rate: 0.1", "raet: 0.1", "did you mean 'rate'", "$.arms.x.agent.config"),
    mistake("rate: 0.1", "rate: fast", "must be `float`, but is `str` 'fast'", "$.arms.x.agent.config.rate"),
    mistake("helpers.worlds:Target-v0", "CartPole-v1", "seeker needs a task", "$.arms.x.agent"),
    mistake("helpers.worlds:Target-v0", "CartPol-v1", "did you mean 'CartPole-v1'", "$.tasks[0].env"),
    mistake("name: t,", "name: t, kwargs: {targte: 1},", "did you mean 'target'", "$.tasks[0].kwargs.targte"),
    mistake("name: t,", "name: t, physics: {gravity: 1},", "physics", "$.tasks[0].physics"),
    mistake("name: a", "windows: [2]\nname: a", "must be of several tasks", "$.windows"),
    mistake("x: {", SEARCH % "tempo: {kind: real, low: 1, high: 2}", "'tempo' is not", "$.arms.x.search.space.tempo"),
    mistake("x: {", SEARCH % "rate: {kind: real, low: 0.1, high: 2}", "rate must be at most 1", "$.arms.x.search.space.rate"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message", "at"), MISTAKES)
def test_a_bad_file_is_refused_with_law_fact_way_out_and_address(
    tmp_path: Path, old: str, new: str, message: str, at: str
) -> None:
    path = tmp_path / "bad.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(SpecError) as caught:
        yaml_file.read(path)
    assert message in str(caught.value)
    assert caught.value.at == at
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("old", "new", "message", "at"), UNPLAYABLE)
def test_what_cannot_be_played_is_refused_before_anything_is(
    tmp_path: Path, old: str, new: str, message: str, at: str
) -> None:
    path = tmp_path / "bad.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(SpecError) as caught:
        playable.check(yaml_file.read(path))
    assert message in str(caught.value)
    assert caught.value.at == at


def test_an_arm_that_searches_needs_seeds_to_choose_by() -> None:
    space = {"rate": {"kind": "real", "low": 0.1, "high": 1}}
    arm = {"agent": {"name": "uniform"}, "search": {"space": space, "candidates": 2}}
    with pytest.raises(msgspec.ValidationError, match="tune must not be empty"):
        tiny(arms={"x": arm})


def test_frozen_needs_another_arm() -> None:
    with pytest.raises(SpecError, match="after: <arm>"):
        playable.check(tiny(arms={"x": {"agent": {"name": "frozen"}}}))


def test_a_window_is_no_longer_than_a_trial() -> None:
    two = [{**TINY["tasks"][0], "name": name} for name in "ab"]
    budget = {**TINY["budget"], "dense": [1, 2, 4]}  # 2 exams a task, and 3 after the switch
    playable.check(tiny(tasks=two, budget=budget, windows=[2, 7]))
    with pytest.raises(SpecError, match=r"holds 8 exams and a trial has 7; lower it") as caught:
        playable.check(tiny(tasks=two, budget=budget, windows=[2, 8]))
    assert caught.value.at == "$.windows[1]"
    playable.check(tiny(tasks=two))  # nobody asked for 100


def test_a_module_that_will_be_imported_is_named(spec: Any) -> None:
    assert playable.check(spec) == ["arm 'seeker' imports and runs the module helpers.seeker"]


def test_numbers_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD.replace("rate: 0.1", "rate: 3e-4").replace("steps: 10", "steps: 1_000"))
    spec = yaml_file.read(path)
    assert spec.arms["x"].agent.config["rate"] == 3e-4
    assert spec.budget.steps == 1000


def test_values_can_be_set_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    changes = ["budget.steps=500", "arms.x.agent.config.rate=1e-3", "tasks.0.name=u"]
    spec = yaml_file.read(path, changes)
    assert spec.budget.steps == 500
    assert spec.arms["x"].agent.config["rate"] == 1e-3
    assert spec.tasks[0].name == "u"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("budget.steps", "must read key.path=value"),
        ("budget..steps=1", "must read key.path=value"),
        ("tasks.3.name=u", "there are 1 items"),
        ("tasks.name=u", "must lead along keys"),
        ("budget.stpes=1", "did you mean 'steps'"),
        ("name.x=1", "leads below 'a'"),
    ],
)
def test_a_change_that_leads_nowhere_is_refused(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    with pytest.raises(SpecError, match=message):
        yaml_file.read(path, [change])


def test_an_anchor_may_be_merged(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD.replace("{steps: 10, exam_every: 5}", "{<<: {steps: 10}, exam_every: 5}"))
    assert yaml_file.read(path).budget.steps == 10


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(SpecError, match="must be text"):
        yaml_file.read(tmp_path / "spec.yaml")


def test_a_reference_stands_alone() -> None:
    task = {**TINY["tasks"][0], "random": 0, "reference": "y"}
    arms = {**TINY["arms"], "y": {"after": "seeker", "agent": {"name": "frozen"}}}
    with pytest.raises(msgspec.ValidationError, match="stands alone"):
        tiny(tasks=[task], arms=arms)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="No such file"):
        yaml_file.read(tmp_path / "none.yaml")
