"""Measure what a PPO trial adds to a worker's memory, and print it as JSON.

    python play_memory.py [ENV]

The worker is this process with torch, MuJoCo and Ray Tune imported, as Ray's would be. The trial
has the settings of `ppo_settings.py`, three exams of ten episodes and its checkpoints. `added`
and `peak` are MiB of resident memory at the end and at the worst moment, over what was there
before; rigorl's own modules count.
"""

import json
import resource
import sys
import tempfile
from pathlib import Path

import mujoco  # noqa: F401
import psutil
import ray.tune  # noqa: F401
import torch

MIB = 2**20


def resident() -> float:
    return psutil.Process().memory_info().rss / MIB


def trial(env: str, storage: Path) -> None:
    from ppo_settings import NUM_ENVS, ROLLOUT, SETTINGS  # noqa: PLC0415  counted

    from rigorl.outside.in_process import Alone  # noqa: PLC0415
    from rigorl.run import Run  # noqa: PLC0415
    from rigorl.spec import AgentSpec, Budget, TaskSpec  # noqa: PLC0415
    from rigorl.trial import Trial  # noqa: PLC0415

    steps = 3 * ROLLOUT
    order = Trial(
        experiment="memory",
        arm="ppo",
        phase="test",
        agent=AgentSpec(name="ppo", config=SETTINGS),
        tasks=(TaskSpec(name="task", env=env),),
        budget=Budget(steps=steps, exam_every=ROLLOUT, num_envs=NUM_ENVS, checkpoint_every=ROLLOUT),
        seed=0,
    )
    for _ in Run(order, Alone(), storage):
        pass


def main() -> None:
    torch.set_num_threads(1)
    env = sys.argv[1] if len(sys.argv) > 1 else "HalfCheetah-v5"
    before = resident()
    with tempfile.TemporaryDirectory() as storage:
        trial(env, Path(storage))
    after = resident()
    peak = max(after, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps({"before": before, "added": after - before, "peak": peak - before}))


if __name__ == "__main__":
    main()
