"""H-infinity learns what is known in closed form."""

from contextlib import closing
from typing import Any

import numpy as np
import pytest

from rigorl.agents import hinf
from rigorl.agents.hinf import Config
from rigorl.analysis import lq
from rigorl.contract import Span
from rigorl.outside.in_process import Alone
from rigorl.ports import PortSpec
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_world, world_spec

DISCOUNT = 0.98
EXACT = lq.system(1.1, 1.0, 0.1, 1.0, 1.0)
TASK = TaskSpec(
    name="scalar",
    env="rigorl/LinearQuadratic-v0",
    kwargs={
        **{name: float(getattr(EXACT, name)[0, 0] / DISCOUNT**0.5) for name in "ABD"},
        "Q": 1,
        "R": 1,
        "steps": 200,
        "bound": 5,
    },
    port=PortSpec(limit=20.0, best=0.0),
)
SETTINGS: dict[str, Any] = {
    "eta": 0.025, "norm": "squared", "pays": "gain", "lambda_init": 0.3, "lambda_lr": 0.15,
    "random": hinf.Random(scale=0.05, kind="normal"), "age_weights": True, "warm_up": 0.2,
    "ramp": 0.0, "discount": DISCOUNT, "gae_lambda": 1.0, "slack_trace": 1.0, "n_steps": 200,
    "minibatch": 6400, "epochs": 4, "lr": 3e-3, "push_lr": 2e-3, "lr_schedule": "linear",
    "max_grad_norm": 10.0, "hidden": (), "push_hidden": (), "odd": True, "log_std_final": -4.0,
    "settled": 0.2, "push_log_std_init": -3.3, "push_log_std_final": -3.3,
    "push_entropy_coef": 0.0, "normalize_obs": False,
    "reward_clip": 1e9, "reward_memory": 100_000,
}  # fmt: skip


def learned(**changes: Any) -> float:
    """Return k of u = -k x after 2.5 million steps."""
    world_of = world_spec([TASK], 128)
    agent = hinf.make(Config(**{**SETTINGS, **changes}), world_of, 0)
    with closing(open_world(TASK, 128, 0, {})) as world:
        for _ in agent.learn(world, Alone(), Span(0, 0, 128 * 200 * 100)):
            pass
    (policy,) = agent.policies().values()
    action = policy(np.array([[1.0], [-1.0]]))
    return float(action[1, 0] - action[0, 0]) / 2


def test_under_no_bound_it_is_the_lqr_and_under_one_it_keeps_it() -> None:
    usual = float(lq.lqr(EXACT.A, EXACT.B, EXACT.Q, EXACT.R)[0, 0])
    assert learned(nominal=1.0) == pytest.approx(usual, rel=0.03)
    gain = lq.l2_gain(*EXACT, learned())
    assert gain == pytest.approx(0.025**0.5, rel=0.06)
    assert gain < 0.85 * lq.l2_gain(*EXACT, usual)
