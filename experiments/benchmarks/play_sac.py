"""Train one SAC, ours or Stable-Baselines3's, examine it, and print the result as JSON.

    python play_sac.py ours|sb3 ENV SEED STEPS [THREADS] [EVERY]

Both get what SETTINGS says, one environment, an update each step, and so many torch threads. The
policy is examined after each EVERY steps (at the end only, if it is 0) and the time of that does
not count. The rate is that of the steps with an update. `sac_vs_sb3.py` calls this; each run has
a process of its own.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from play_ppo import Act, examine
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback

from rigorl.agents import sac
from rigorl.contract import Span
from rigorl.outside.in_process import Alone
from rigorl.spec import TaskSpec
from rigorl.tasks.world import World, WorldSpec

SETTINGS = {
    "lr": 3e-4,
    "batch": 256,
    "capacity": 1_000_000,
    "discount": 0.99,
    "tau": 0.005,
    "learning_starts": 100,
    "hidden": (256, 256),
    "temperature": 1.0,
}
EXAM_SEEDS = range(1_000_000, 1_000_010)


def now() -> list[float]:
    return [time.perf_counter(), time.process_time()]


class Clock:
    """Seconds of learning from the first update on, without the exams.

    By the wall, and those in which this process had a core.
    """

    def __init__(self, env: str, every: int, steps: int) -> None:
        self.env, self.every, self.steps = env, every or steps, steps
        self.spent = [0.0, 0.0]
        self.since = now()
        self.curve: list[tuple[int, list[float]]] = []

    def passed(self, step: int, policy: Callable[[], Act]) -> None:
        """Be told that *step* steps were taken, and learned from."""
        if step == SETTINGS["learning_starts"]:
            self.spent, self.since = [0.0, 0.0], now()
        if step % self.every == 0 or step == self.steps:
            self.spent = [a + b - c for a, b, c in zip(self.spent, now(), self.since, strict=True)]
            self.curve.append((step, examine(policy(), self.env, EXAM_SEEDS)))
            self.since = now()


def ours(env: str, seed: int, steps: int, threads: int, clock: Clock) -> None:
    envs = SyncVectorEnv([partial(gym.make, env)], autoreset_mode=AutoresetMode.SAME_STEP)
    envs.reset(seed=seed)
    task = TaskSpec(name="task", env=env)
    spaces = envs.single_observation_space, envs.single_action_space
    config = sac.Config(**SETTINGS, threads=threads)
    agent = sac.make(config, WorldSpec(*spaces, 1, (task,)), seed)
    for progress in agent.learn(World(task, envs), Alone(), Span(0, 0, steps)):
        clock.passed(progress.step, lambda: agent.policies()["sac"])


def sb3(env: str, seed: int, steps: int, threads: int, clock: Clock) -> None:
    torch.set_num_threads(threads)
    model = SAC(
        "MlpPolicy",
        env,
        learning_rate=SETTINGS["lr"],
        buffer_size=SETTINGS["capacity"],
        learning_starts=SETTINGS["learning_starts"],
        batch_size=SETTINGS["batch"],
        tau=SETTINGS["tau"],
        gamma=SETTINGS["discount"],
        train_freq=1,
        gradient_steps=1,
        ent_coef="auto",
        target_entropy="auto",
        policy_kwargs={"net_arch": list(SETTINGS["hidden"])},
        seed=seed,
        device="cpu",
    )

    def act(obs: NDArray[Any]) -> NDArray[Any]:
        return model.predict(obs, deterministic=True)[0]

    class Told(BaseCallback):
        """Comes by before each update: that of the last step is missing, one in thousands."""

        def _on_step(self) -> bool:
            clock.passed(self.num_timesteps, lambda: act)
            return True

    model.learn(steps, Told())


def main() -> None:
    who, env, seed, steps, *rest = sys.argv[1:]
    threads, every = (int(given) for given in (*rest, *("1", "0")[len(rest) :]))
    clock = Clock(env, every, int(steps))
    {"ours": ours, "sb3": sb3}[who](env, int(seed), int(steps), threads, clock)
    rate, cpu_rate = ((int(steps) - SETTINGS["learning_starts"]) / spent for spent in clock.spent)
    found = {"threads": threads, "rate": rate, "cpu_rate": cpu_rate, "curve": clock.curve}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
