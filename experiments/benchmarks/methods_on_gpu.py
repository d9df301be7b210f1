"""Let PPO learn two poles with each method against forgetting, on a GPU and on the CPU.

    python experiments/benchmarks/methods_on_gpu.py [--steps 4096]

Both begin with the same weights, draw the same noise, and compute the same losses by autograd. What
differs is rounding: after the first update the weights must agree to 1e-4, and at the end, when
rounding has made other lives of them, both must have learned without a number that is none.
The rates are those of one process, exams left out.
"""

import argparse
import sys
import time
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from rigorl import contract
from rigorl.contract import Span
from rigorl.outside.in_process import Alone
from rigorl.spec import AgentSpec, TaskSpec
from rigorl.tasks.envs import open_world, world_spec

TASKS = (
    TaskSpec(name="plain", env="CartPole-v1"),
    TaskSpec(name="heavy", env="CartPole-v1", physics={"masspole": 1.0}),
)
METHODS: dict[str, dict[str, Any]] = {
    "finetune": {"name": "finetune"},
    "replay": {"name": "replay", "memory": 512, "batch": 64},
    "ewc": {"name": "ewc"},
    "si": {"name": "si"},
    "lwf": {"name": "lwf"},
    "agem": {"name": "agem", "memory": 512, "batch": 64},
    "steady": {"name": "steady", "memory": 512, "batch": 64},
    "refresh": {"name": "refresh", "base": {"name": "replay", "memory": 512, "batch": 64}},
}
NUM_ENVS, NEAR = 8, 1e-4


class Lived(NamedTuple):
    """Weights after the first update and at the end, and updates a second."""

    first: torch.Tensor
    last: torch.Tensor
    rate: float


def lived(method: dict[str, Any], gpus: float, steps: int) -> Lived:
    """Learn both poles with *method*."""
    config = {"n_steps": 128, "backward": "autograd", "keep_obs_scale": True, "method": method}
    world_of = replace(world_spec(TASKS, NUM_ENVS), gpus=gpus)
    agent: Any = contract.make(AgentSpec(name="ppo", config=config), world_of, 0)
    first, begun = torch.empty(0), time.perf_counter()
    for stage, task in enumerate(TASKS):
        with closing(open_world(task, NUM_ENVS, stage, {})) as world:
            for _ in agent.learn(world, Alone(), Span(stage, 0, steps)):
                first = first if len(first) else agent.flat.weights.cpu().clone()
    rate = agent.updates / (time.perf_counter() - begun)
    return Lived(first, agent.flat.weights.cpu(), rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4096)
    steps = parser.parse_args().steps
    there = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if there else "the CPU alone"
    print(f"on {device}, torch {torch.__version__}")
    print("| method | apart after one update | finite | updates a second: CPU | GPU |")
    print("| --- | ---: | --- | ---: | ---: |")
    failed = False
    for name, method in METHODS.items():
        cpu, gpu = (lived(method, gpus, steps) for gpus in (0.0, 1.0))
        apart = float((cpu.first - gpu.first).abs().max())
        finite = all(bool(one.last.isfinite().all()) for one in (cpu, gpu))
        failed |= apart > NEAR or not finite
        print(f"| {name} | {apart:.1e} | {finite} | {cpu.rate:.0f} | {gpu.rate:.0f} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
