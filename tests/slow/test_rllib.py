"""RLlib's algorithms keep the contract, but for exact resume."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from helpers.commands import environment
from helpers.heads import Head, head
from rigorl import contract
from rigorl.errors import SpecError
from rigorl.lockstep import play
from rigorl.outside import rllib
from rigorl.outside.in_process import Alone
from rigorl.spec import AgentSpec, Budget, TaskSpec
from rigorl.tasks.envs import world_spec
from rigorl.trial import Bundle, Report, Trial

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module", autouse=True)
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A cluster that runs on this machine, where Ray looks for one, and is none of ours."""
    with (
        head(environment(tmp_path_factory.mktemp("other")), cpus=0) as started,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        (where := started.folder / "ray").mkdir()
        (where / "ray_current_cluster").write_text(f"127.0.0.1:{started.gcs}")
        patch.setenv("RAY_TMPDIR", str(started.folder))
        yield started
        ray.shutdown()


def test_ppo_learns_two_tasks_and_its_policies_come_back(tmp_path: Path, other: Head) -> None:
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
    joined = ray.get_runtime_context().gcs_address
    assert not joined.endswith(f":{other.gcs}"), "it joined a cluster that merely runs here"
    (policy,) = contract.load_policies(tmp_path / trial.id / "policies").values()
    action = policy(np.zeros((16, 3), np.float32))
    assert action.shape == (16, 1)
    assert np.abs(action).max() <= 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"algorithm": "PPOO"}, "try PPO"),
        ({"training": {"lrr": 1}}, "lrr"),
    ],
)
def test_what_rllib_would_not_take_is_refused(config: dict[str, Any], message: str) -> None:
    agent = AgentSpec(name="rigorl.outside.rllib", config=config)
    world = world_spec([TaskSpec(name="a", env="CartPole-v1")], 1)
    with pytest.raises(SpecError, match=message):
        contract.make(agent, world, 0)


def test_a_value_based_algorithm_is_examined_too(tmp_path: Path) -> None:
    config = {"algorithm": "DQN", "training": {"num_steps_sampled_before_learning_starts": 10}}
    trial = Trial(
        experiment="x",
        arm="theirs",
        phase="test",
        agent=AgentSpec(name="rigorl.outside.rllib", config=config),
        tasks=(TaskSpec(name="a", env="CartPole-v1"),),
        budget=Budget(steps=32, exam_every=32, exam_episodes=1),
        seed=0,
    )
    told = [e for e in play(Bundle(trials=(trial,)), Alone(), tmp_path) if isinstance(e, Report)]
    assert told[-1].finished
    assert not told[-1].exact
