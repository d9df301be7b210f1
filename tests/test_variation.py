"""Physics drawn anew for each episode."""

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from rigorl.errors import SpecError
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_env, open_envs

HOPPER = TaskSpec(
    name="hopper",
    env="Hopper-v5",
    physics={"gravity": 5.0},
    vary={"mass": {"torso": (0.5, 2.0)}, "friction": (0.2, 1.0)},
)
CARTPOLE = TaskSpec(name="pole", env="CartPole-v1", vary={"length": (0.25, 1.0)})


def test_physics_are_drawn_for_each_episode_between_their_ends() -> None:
    env = open_env(HOPPER)
    plain: Any = open_env(TaskSpec(name="plain", env="Hopper-v5")).unwrapped
    bare: Any = env.unwrapped
    masses, frictions = [], []
    for seed in range(20):
        env.reset(seed=seed)
        torso = bare.model.body("torso").id
        masses.append(bare.model.body_mass[torso] / plain.model.body_mass[torso])
        frictions.append(bare.model.geom_friction[0, 0] / plain.model.geom_friction[0, 0])
        scales = bare.model.body_mass[1:] / plain.model.body_mass[1:]
        np.testing.assert_allclose(np.delete(scales, torso - 1), 1)  # others are left alone
        assert bare.model.opt.gravity[2] == -5
    for drawn, low, high in ((masses, 0.5, 2.0), (frictions, 0.2, 1.0)):
        assert low <= min(drawn) < (2 * low + high) / 3 < (low + 2 * high) / 3 < max(drawn) <= high
    env.reset(seed=3)
    assert bare.model.body_mass[torso] / plain.model.body_mass[torso] == masses[3]
    env.reset()  # goes on from there
    assert bare.model.body_mass[torso] / plain.model.body_mass[torso] not in masses


def test_nothing_piles_up_from_episode_to_episode() -> None:
    ends = (0.5, 0.6)
    task = replace(
        HOPPER,
        physics={},
        vary=dict.fromkeys(("mass", "friction", "damping", "gear"), ends) | {"gravity": (1.0, 2.0)},
    )
    env, plain = open_env(task), open_env(replace(task, vary={}))
    now, before = (each.unwrapped.model for each in (env, plain))  # type: ignore[attr-defined]
    for seed in range(5):
        env.reset(seed=seed)
        assert -2 <= now.opt.gravity[2] <= -1
        for name in ("body_mass", "body_inertia", "dof_damping", "actuator_gear"):
            scales = getattr(now, name)[1:] / np.maximum(getattr(before, name)[1:], 1e-12)
            used = getattr(before, name)[1:] > 0
            assert ((scales >= 0.5) & (scales <= 0.6))[used].all()
        np.testing.assert_allclose(
            now.body_mass[1:] / before.body_mass[1:],
            now.body_inertia[1:, 0] / before.body_inertia[1:, 0],
        )


def test_classic_control_varies_too() -> None:
    env = open_env(CARTPOLE)
    bare: Any = env.unwrapped
    lengths = []
    for _ in range(8):
        env.reset()
        lengths.append(bare.length)
        assert bare.polemass_length == bare.masspole * bare.length
    assert len(set(lengths)) == 8
    assert all(0.25 <= length <= 1.0 for length in lengths)


@pytest.mark.parametrize(
    ("env", "joint"), [("Hopper-v5", "leg_joint"), ("Humanoid-v5", "right_knee")]
)
def test_our_simulations_vary_as_gymnasiums_do(env: str, joint: str) -> None:
    rows = []
    for engine in ("auto", "gymnasium"):
        task = TaskSpec(
            name="task",
            env=env,
            engine=engine,  # type: ignore[arg-type]
            kwargs={"max_episode_steps": 7},
            vary={"mass": (0.5, 2.0), "damping": (0.5, 1.5), "gear": {joint: (0.0, 1.0)}},
        )
        envs = open_envs(task, 3, seed=1)
        envs.reset()
        envs.action_space.seed(0)
        told = [envs.step(envs.action_space.sample()) for _ in range(18)]
        rows.append([np.concatenate([obs, rewards[:, None]], axis=1) for obs, rewards, *_ in told])
        envs.close()
    np.testing.assert_allclose(*rows, atol=1e-9, rtol=1e-9)
    assert (np.ptp(rows[0][5], axis=0) > 0).any()


@pytest.mark.parametrize(
    ("vary", "at", "words"),
    [
        ({"weight": (1.0, 2.0)}, "$.vary.weight", "'weight' is not"),
        ({"mass": {"tail": (1.0, 2.0)}}, "$.vary.mass.tail", "'tail' is none"),
        ({"mass": (0.0, 2.0)}, "$.vary.mass", "above 0, but is 0.0"),
    ],
)
def test_what_cannot_vary_is_refused(vary: Any, at: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        open_env(TaskSpec(name="task", env="Hopper-v5", vary=vary))
    assert caught.value.at == at


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"vary": {"mass": (2.0, 1.0)}}, "the lower one first, but mass is \\[2.0, 1.0\\]"),
        ({"vary": {"mass": {"torso": (1.0, np.inf)}}}, "but torso is \\[1.0, inf\\]"),
        ({"vary": {"mass": (1.0, 2.0)}, "physics": {"mass": 1.0}}, "both have mass"),
    ],
)
def test_ends_must_make_sense(kwargs: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TaskSpec(name="task", env="Hopper-v5", **kwargs)
