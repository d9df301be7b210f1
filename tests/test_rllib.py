"""RLlib's algorithms keep the contract, but for exact resume."""

import os
from pathlib import Path

import numpy as np
import pytest

from rigorl import contract
from rigorl.errors import SpecError
from rigorl.outside import rllib
from rigorl.outside.in_process import Alone
from rigorl.run import play
from rigorl.spec import AgentSpec, Budget, TaskSpec
from rigorl.trial import Bundle, Report, Trial

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


def test_ppo_learns_two_tasks_and_its_policies_come_back(tmp_path: Path) -> None:
    small = {"train_batch_size_per_learner": 256, "minibatch_size": 64, "num_epochs": 1}
    config = {"algorithm": "PPO", "training": small}
    tasks = (
        TaskSpec(name="heavy", env="Pendulum-v1", physics={"mass": 1.5}),
        TaskSpec(name="light", env="Pendulum-v1"),
    )
    trial = Trial(
        experiment="x",
        arm="theirs",
        phase="test",
        agent=AgentSpec(name="rigorl.outside.rllib", config=config),
        tasks=tasks,
        budget=Budget(steps=512, exam_every=512, exam_episodes=1, num_envs=2),
        seed=0,
    )
    told = [e for e in play(Bundle(trials=(trial,)), Alone(), tmp_path) if isinstance(e, Report)]
    assert [(r.stage, r.step, r.update) for r in told] == [(0, 512, 2), (1, 512, 4)]
    assert told[-1].finished
    assert rllib.inexact
    (policy,) = contract.load_policies(tmp_path / trial.id / "policies").values()
    action = policy(np.zeros((16, 3), np.float32))
    assert action.shape == (16, 1)
    assert np.abs(action).max() <= 2


def test_an_algorithm_that_rllib_lacks_is_refused() -> None:
    agent = AgentSpec(name="rigorl.outside.rllib", config={"algorithm": "PPOO"})
    with pytest.raises(SpecError, match="try PPO"):
        contract.make(agent, None, 0)  # type: ignore[arg-type]
