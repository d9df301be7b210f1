"""What PPO and SAC say can change while they learn, does; and what was set wins over what was saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import tiny
from helpers.dying import Dying, Killed
from helpers.trials import encoded, reports, until_saved
from rigorl import contract, experiment
from rigorl.lockstep import play
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import Alone, InProcess, Memory
from rigorl.spec import AgentSpec, Budget, TaskSpec
from rigorl.trial import Bundle, Trial

PPO: dict[str, Any] = {
    "n_steps": 16,
    "epochs": 2,
    "minibatch": 32,
    "hidden": [8],
    "clip": 0.01,
    "lr": 3e-3,
}
SAC: dict[str, Any] = {"hidden": [8], "batch": 16, "learning_starts": 20}
OTHER: dict[str, dict[str, Any]] = {
    "ppo": {
        "lr": 0.01,
        "lr_schedule": "linear",
        "n_steps": 8,
        "minibatch": 16,
        "epochs": 3,
        "discount": 0.5,
        "gae_lambda": 0.5,
        "clip": 1e-3,
        "clip_schedule": "linear",
        "entropy_coef": 0.5,
        "value_coef": 0.01,
        "max_grad_norm": 0.01,
        "target_kl": 1e-9,
        "adam_eps": 0.1,
        "normalize_advantage": False,
        "obs_clip": 0.1,
        "reward_clip": 0.1,
    },
    "sac": {
        "lr": 0.01,
        "batch": 32,
        "discount": 0.5,
        "tau": 0.5,
        "target_every": 3,
        "train_every": 2,
        "update_ratio": 0.5,
        "learn_temperature": False,
        "target_entropy": 3.0,
    },
}
EVERY = [(agent, name) for agent, settings in OTHER.items() for name in settings]
SWITCH = 64


def changing(agent: str, change: dict[str, Any], at: int = SWITCH) -> Trial:
    sac = agent == "sac"
    kwargs = {"max_episode_steps": 30}
    return Trial(
        experiment="flight",
        arm="x",
        phase="test",
        agent=AgentSpec(name=agent, config=SAC if sac else PPO, schedule=((at, change),)),
        tasks=(TaskSpec(name="t", env="Pendulum-v1" if sac else "CartPole-v1", kwargs=kwargs),),
        budget=Budget(steps=192, exam_every=192, exam_episodes=2, num_envs=4, checkpoint_every=128),
        seed=5,
    )


def weights(trial: Trial, storage: Path) -> bytes:
    list(play(Bundle(trials=(trial,)), Alone(), storage))
    return next((storage / trial.id / "policies").rglob("*.safetensors")).read_bytes()


@pytest.mark.parametrize("agent", ["ppo", "sac"])
def test_all_that_can_change_in_flight_is_tried_here(agent: str) -> None:
    assert OTHER[agent].keys() == contract.find(agent).IN_FLIGHT  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    found = {a: weights(changing(a, {}), tmp_path_factory.mktemp(a)) for a in ("ppo", "sac")}
    return found.__getitem__


@pytest.mark.parametrize(("agent", "name"), EVERY)
def test_a_change_is_felt_from_the_switch_on(
    agent: str, name: str, unchanged: Callable[[str], bytes], tmp_path: Path
) -> None:
    """A setting that what was saved rests on, or brings back, would change nothing."""
    assert weights(changing(agent, {name: OTHER[agent][name]}), tmp_path) != unchanged(agent)


@pytest.mark.parametrize("agent", ["ppo", "sac"])
def test_a_switch_to_the_same_settings_changes_nothing(
    agent: str, unchanged: Callable[[str], bytes], tmp_path: Path
) -> None:
    """The agent is made anew, and goes on as if it had not been."""
    assert weights(changing(agent, {"discount": 0.99}), tmp_path) == unchanged(agent)


@pytest.mark.parametrize("agent", ["ppo", "sac"])
def test_interrupted_at_the_switch_it_is_to_the_bit_what_it_was(agent: str, tmp_path: Path) -> None:
    bundle = Bundle(trials=(changing(agent, {"lr": 0.01, "discount": 0.9}),))
    whole = list(play(bundle, Alone(), tmp_path / "whole"))
    cut = until_saved(play(bundle, Alone(), tmp_path / "cut"), 1)
    assert (cut[-1].stage, cut[-1].step) == (0, SWITCH)  # type: ignore[union-attr]
    again = list(play(bundle, Alone(), tmp_path / "cut"))
    assert encoded(cut + again) == encoded(whole)
    ends = [
        next((tmp_path / where / bundle.id / "policies").rglob("*.safetensors")).read_bytes()
        for where in ("whole", "cut")
    ]
    assert ends[0] == ends[1]
    assert reports(whole)[-1].finished


@pytest.mark.parametrize("sampler", ["pbt", "pb2"])
def test_a_population_of_ppo_killed_in_the_middle_comes_to_the_same(
    sampler: str, tmp_path: Path
) -> None:
    space = {
        "lr": {"kind": "real", "low": 1e-4, "high": 1e-2, "log": True},
        "epochs": {"kind": "integer", "low": 1, "high": 4},
        "normalize_advantage": {"kind": "choice", "of": [True, False]},
    }
    search = {"sampler": sampler, "candidates": 4, "space": space}
    spec = tiny(
        arms={"grown": {"agent": {"name": "ppo", "config": PPO}, "search": search}},
        tasks=[{"name": "pole", "env": "CartPole-v1", "kwargs": {"max_episode_steps": 30}}],
        budget={
            "steps": 256,
            "exam_every": 64,
            "exam_episodes": 2,
            "num_envs": 4,
            "checkpoint_every": 64,
        },
        seeds={"tune": [10, 11], "test": [0]},
    )

    def run(journal: Memory, cluster: InProcess) -> Any:
        journal.begin(spec)
        return experiment.run(spec, cluster, journal, optuna_ask.ask)

    def content(journal: Memory) -> Any:
        told = {
            id_: sorted(map(msgspec.msgpack.encode, r.values())) for id_, r in journal.told.items()
        }
        return told, journal.asked

    whole, cut = Memory(), Memory()
    verdict = run(whole, InProcess(tmp_path / "whole"))
    assert verdict.arms["grown"].complete
    for after in (25, 40):
        with pytest.raises(Killed):
            run(cut, Dying(tmp_path / "cut", after))
    assert run(cut, InProcess(tmp_path / "cut")) == verdict
    assert content(cut) == content(whole)
