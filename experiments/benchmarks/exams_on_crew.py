"""Measure what exams cost a learner: taken by itself, by a crew, or not at all.

    python experiments/benchmarks/exams_on_crew.py [--rounds 3] [--seconds 6] [--tasks 1 5 20]

PPO learns HalfCheetah-v5 in one process, with one thread, and is examined on k tasks that differ
in gravity; one member of a Ray crew takes the exams in the second. How fast a member alone takes
them is measured first; then exams are asked for at shares of that rate. In each round the ways are
tried in turn, and compared within it. `predicted` is what `rigorl plan` says of the same trial.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ppo_vs_sb3 import machine

from rigorl.contract import Crew
from rigorl.estimate import waiting_s
from rigorl.examining import Exams
from rigorl.outside.in_process import Alone
from rigorl.outside.on_ray.crew import RayCrew
from rigorl.resources import Needs
from rigorl.run import Run
from rigorl.spec import AgentSpec, Budget, TaskSpec
from rigorl.tasks.exam import examine, order
from rigorl.trial import Trial

RESULTS = Path(__file__).with_name("results") / "exams_on_crew.md"
DEMANDS = (0.2, 0.5, 0.8, 1.2, 2.0)
BACKLOG, EPISODES, HORIZON, NUM_ENVS, N_STEPS = 4, 4, 200, 8, 32
BAR, WITHIN = 0.9, 0.8
"""Of the rate without exams, while they ask for at most so much of the crew's own rate."""
FOR_EVER = 2**40


class Seen(NamedTuple):
    """One way to be examined, in one round; rates are shares of that without exams."""

    tasks: int
    demand: float
    blocking: float
    crew: float
    predicted: float
    exams: int


def trial(tasks: int, every: int) -> Trial:
    worlds = tuple(
        TaskSpec(name=f"g{i}", env="HalfCheetah-v5", physics={"gravity": 5.0 + i})
        for i in range(tasks)
    )
    steps = FOR_EVER // NUM_ENVS * NUM_ENVS
    budget = Budget(
        steps=steps,
        exam_every=min(every, steps),
        exam_episodes=EPISODES,
        exam_horizon=HORIZON,
        num_envs=NUM_ENVS,
        checkpoint_every=steps,
    )
    agent = AgentSpec(name="ppo", config={"n_steps": N_STEPS})
    return Trial(
        experiment="bench",
        arm="ppo",
        phase="test",
        agent=agent,
        tasks=worlds,
        budget=budget,
        seed=0,
    )


def rate(tasks: int, every: int, exams: Exams, seconds: float) -> tuple[float, int]:
    """Return the steps a second of a learner for *seconds*, and how many exams it took."""
    run = Run(trial(tasks, every), Alone(), None, exams)
    events = iter(run)
    start = None
    for _ in events:
        now = time.perf_counter()
        if start is None and run.place.step >= NUM_ENVS * N_STEPS * 4:  # warm
            start, first = now, run.place.step
        if start is not None and now - start >= seconds:
            break
    assert start is not None  # noqa: S101
    spent, made = time.perf_counter() - start, run.place.step - first
    taken = run.place.step // every
    list(run.settle())
    return made / spent, taken


def alone(tasks: int, crew: Crew, seconds: float) -> float:
    """Return the seconds that a member needs for one item of an exam while the learner rests."""
    one = trial(tasks, FOR_EVER)
    run = Run(one, Alone())
    for _ in run:
        if run.place.step >= NUM_ENVS * N_STEPS * 4:
            break
    (policy,) = run.agent.policies().values()
    lent = crew.share(policy)
    orders = [order(task, lent, one.budget, 0) for task in one.tasks]
    list(crew.map(examine, orders))
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        done += len(list(crew.map(examine, orders)))
    return (time.perf_counter() - start) / done


def compare(tasks: int, seconds: float) -> list[Seen]:
    found = []
    with RayCrew(1, Needs(1.0), bounded=False) as crew:
        item_s = alone(tasks, crew, seconds / 2)
        for demand in DEMANDS:
            free, _ = rate(tasks, FOR_EVER, Exams(Alone()), seconds)
            every = max(1, round(item_s * tasks * free / demand))
            stopped, _ = rate(tasks, every, Exams(Alone()), seconds)
            going, exams = rate(tasks, every, Exams(crew, BACKLOG), seconds)
            moments = [every / free * (i + 1) for i in range(1_000)]
            waits = waiting_s(moments, item_s, tasks, 1, BACKLOG)
            predicted = moments[-1] / (moments[-1] + waits)
            found.append(Seen(tasks, demand, stopped / free, going / free, predicted, exams))
            print(found[-1], file=sys.stderr, flush=True)
    return found


def page(found: Sequence[Sequence[Seen]], command: str) -> str:
    head = "| tasks | demand | blocking | on the crew | predicted | exams |"
    lines = [head, "| ---: | ---: | ---: | ---: | ---: | ---: |"]
    missed = []
    for same in zip(*found, strict=True):
        first = same[0]
        crew = [seen.crew for seen in same]
        lines.append(
            f"| {first.tasks} | {first.demand:g} | {_spread([s.blocking for s in same])} | "
            f"{_spread(crew)} | {statistics.median(s.predicted for s in same):.2f} | "
            f"{sum(s.exams for s in same)} |"
        )
        if first.demand <= WITHIN and statistics.median(crew) < BAR:
            missed.append(f"{first.tasks} tasks at {first.demand:g}")
    bar = f"The bar, {BAR:g} of the rate without exams while demand is at most {WITHIN:g}: "
    bar += f"missed at {', '.join(missed)}." if missed else "met."
    return "\n".join(
        [
            "# What exams cost a learner",
            "",
            f"`{command}` on {machine()}.",
            "",
            "Steps a second as a share of those without exams, in the same round: median (lowest",
            "to highest). *Demand* is the work of exams in a second of learning, of what a member",
            f"alone was seen to do; backlog {BACKLOG}; {EPISODES} episodes of {HORIZON} steps.",
            "",
            *lines,
            "",
            bar,
            "",
        ]
    )


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 5, 20])
    args = parser.parse_args()
    ray.init(
        "local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error"
    )
    found = [
        [seen for tasks in args.tasks for seen in compare(tasks, args.seconds)]
        for _ in range(args.rounds)
    ]
    text = page(
        found,
        f"python experiments/benchmarks/{Path(__file__).name} {' '.join(sys.argv[1:])}".strip(),
    )
    print(text)
    RESULTS.write_text(text)


if __name__ == "__main__":
    main()
