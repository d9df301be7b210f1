"""The digits study in short: the gap is there, and an exam at the end of a task does not see it.

All seeds of all arms: `python experiments/continual/digits_table.py`.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from rigorl import plan
from rigorl.agents.classifier import Batch, Classifier, Config
from rigorl.analysis.curves import Curve
from rigorl.blocks.continual import replay
from rigorl.contract import Span
from rigorl.lockstep import play
from rigorl.outside import yaml_file
from rigorl.outside.in_process import Alone
from rigorl.tasks.envs import open_world
from rigorl.trial import Bundle, Report

FOLDER = Path(__file__).parents[2] / "experiments" / "continual"
Curves = Callable[[str], list[Curve]]


@pytest.fixture(scope="module")
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_table", FOLDER / "digits_table.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> Curves:
    """Return the curves of three seeds of an arm of the study."""
    spec, home = yaml_file.read(FOLDER / "digits.yaml"), tmp_path_factory.mktemp("digits")
    known: dict[str, list[Curve]] = {}

    def curves_(arm: str) -> list[Curve]:
        if arm not in known:
            trials = plan.trials(spec, arm, "test", {}, spec.seeds.test[:3])
            told = [list(play(Bundle(trials=(trial,)), Alone(), home)) for trial in trials]
            known[arm] = [
                Curve.of(trial, [event for event in events if isinstance(event, Report)])
                for trial, events in zip(trials, told, strict=True)
            ]
        return known[arm]

    return curves_


@pytest.mark.parametrize("arm", ["er-100", "er-20", "er-all", "er-fifth", "er-slow", "finetune"])
def test_three_seeds_of_an_arm_are_what_is_known_of_it(
    arm: str, curves: Curves, table: ModuleType
) -> None:
    """Within four standard errors of the difference, where it is known how the known scatters."""
    (row,) = [row for row in table.KNOWN if row.arm == arm and row.every == 1]
    for name, (mean, deviation) in row.known.items():
        found_S = np.array([table.measured(curve, 1)[name] for curve in curves(arm)])
        if deviation is None:
            assert found_S.mean() == pytest.approx(mean, abs=12), name
        else:
            assert abs(table.distance(found_S, mean, deviation)) < 4, name


@pytest.mark.parametrize("arm", ["er-100", "er-all"])
def test_only_exams_after_each_update_see_the_gap(
    arm: str, curves: Curves, table: ModuleType
) -> None:
    """With all that was seen in the memory, too."""
    for curve in curves(arm):
        close, rare = (table.measured(curve, every) for every in (1, 0))
        assert close["acc"] == rare["acc"]
        assert close["min_acc"] < rare["min_acc"] - 40
        assert rare["min_acc"] > 80


def test_at_the_switch_nothing_holds_what_was_learned() -> None:
    """The stability gradient is below 1 % of the plasticity gradient, and grows past it."""
    spec = yaml_file.read(FOLDER / "digits.yaml")
    agent = Classifier(
        Config(method=replay.Config(memory=100)), [64, 100, 10], spec.budget.num_envs, seed=7
    )
    worlds = [open_world(task, 32, 0, {}) for task in spec.tasks[:2]]
    for _ in agent.learn(worlds[0], Alone(), Span(0, 0, 1_920)):
        pass
    examples = worlds[1].examples
    assert examples is not None
    new = Batch(*(torch.from_numpy(part[:32]) for part in examples))

    def pulls() -> tuple[float, float]:
        memories = agent.method.lesson(new).memories
        assert memories is not None
        return float(agent.recall(memories).norm()), float(agent.gradient(new).norm())

    old, fresh = pulls()
    assert old < 0.01 * fresh
    after = [pulls() for _ in agent.learn(worlds[1], Alone(), Span(1, 0, 320))]
    assert any(old > fresh for old, fresh in after)
