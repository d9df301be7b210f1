"""Measure how fast H-infinity learns beside PPO: environment steps a second, in turn.

    python experiments/benchmarks/speed_hinf.py [--rounds 5] [--steps 32768]

Both learn Hopper-v5 in one process with one thread, in eight environments, from the same settings;
`hinf` with its disturber at full force in half of the environments, and a third network to learn.
The attacker learns against what PPO has just learned. Ratios are within a round.
"""

import argparse
import statistics
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

from ppo_vs_sb3 import machine

from rigorl import contract
from rigorl.contract import Agent, Span
from rigorl.outside.in_process import Alone
from rigorl.ports import PortSpec
from rigorl.spec import AgentSpec, TaskSpec
from rigorl.tasks.envs import open_world, world_spec

TASK = TaskSpec(
    name="hop",
    env="Hopper-v5",
    port=PortSpec(bodies=("torso",), limit=0.15, unit="weight", best=3.0),
)
NUM_ENVS = 8
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 256},
    "hinf": {"n_steps": 256, "warm_up": 0.0, "ramp": 0.0},
    "attacker": {"n_steps": 512},
}


def learned(name: str, seed: int, steps: int, victim: Agent | None) -> tuple[Agent, float]:
    """Return the agent, and the steps a second that it made."""
    given = victim.policies() if victim else {}
    world_of = world_spec([TASK], NUM_ENVS)
    world_of = replace(world_of, given=bool(given))
    agent = contract.make(AgentSpec(name=name, config=SETTINGS[name]), world_of, seed)
    with closing(open_world(TASK, NUM_ENVS, seed, given)) as world:
        begun = time.perf_counter()
        for _ in agent.learn(world, Alone(), Span(0, 0, steps)):
            pass
        return agent, steps / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=32_768)
    arguments = parser.parse_args()
    ratios: dict[str, list[float]] = {"hinf": [], "attacker": []}
    for seed in range(arguments.rounds):
        ppo, rate = learned("ppo", seed, arguments.steps, None)
        for name, found in ratios.items():
            victim = ppo if name == "attacker" else None
            found.append(learned(name, seed, arguments.steps, victim)[1] / rate)
        print(
            f"round {seed}: ppo {rate:.0f} steps/s", {n: round(f[-1], 2) for n, f in ratios.items()}
        )
    print(f"\non {machine()}")
    for name, found in ratios.items():
        middle, low, high = statistics.median(found), min(found), max(found)
        print(f"{name}: {middle:.2f} ({low:.2f} to {high:.2f}) of PPO's steps a second")


if __name__ == "__main__":
    main()
