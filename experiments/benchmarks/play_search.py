"""Search a hill of eleven settings that takes its time, and print how that went.

    python play_search.py ours|tune|threads|processes CANDIDATES SECONDS WORKERS
    python play_search.py ask TOLD

`ours` is a study on a Ray of this machine; `tune` Ray Tune with its OptunaSearch, on a class whose
actors are used again; `threads` Optuna with `n_jobs`, `processes` Optuna in processes of joblib
that share a study through SQLite. All draw by TPE, multivariate. `ask` is what a question costs.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import optuna
import ray
from benchmarks.hill import NOTES, SPACE, climb
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from rigorl import experiment
from rigorl.outside import optuna_ask
from rigorl.outside.journal import at_home
from rigorl.outside.on_ray.cluster import RayCluster, connect
from rigorl.resources import Needs
from rigorl.search import Outcome
from rigorl.searches import Search
from rigorl.space import Choice, Integer
from rigorl.spec import Experiment

HERE = Path(__file__).parent
PER_WORKER = 2
"""Candidates of a generation: sleepers end together, so more would change little."""
Result = dict[str, Any]


def study(candidates: int, seconds: float, workers: int, share: float) -> Experiment:
    search = {
        "candidates": candidates,
        "generation": PER_WORKER * workers,
        "space": msgspec.to_builtins(SPACE),
    }
    agent = {"name": "benchmarks.hill", "config": {"seconds": seconds}}
    budget = {"steps": 1, "exam_every": 1, "exam_episodes": 1, "exam_horizon": 1, "cpus": share}
    parts = {
        "name": "hill",
        "question": "How many candidates an hour?",
        "arms": {"hill": {"agent": agent, "search": search}},
        "tasks": [{"name": "target", "env": "helpers.worlds:Target-v0"}],
        "budget": budget,
        "seeds": {"tune": [100], "test": [0]},
    }
    return msgspec.convert(parts, Experiment)


def ours(candidates: int, seconds: float, workers: int, home: Path) -> None:
    share = ray.cluster_resources()["CPU"] / workers
    spec = study(candidates, seconds, workers, share)
    with closing(at_home(home)) as journal:
        journal.begin(spec, experiment.codes(spec))
        cluster = RayCluster(home / "trials", (Needs(share),))
        experiment.run(spec, cluster, journal, optuna_ask.ask)
        journal.end("done")


class Climb(tune.Trainable):  # type: ignore[misc]
    """What a person gives to Tune."""

    def setup(self, config: dict[str, Any], seconds: float) -> None:
        self.seconds = seconds
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.asked = new_config
        return True

    def step(self) -> dict[str, Any]:
        return {"value": climb(self.asked, self.seconds), "done": True}


def sampler(workers: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(
        seed=0, multivariate=True, n_startup_trials=PER_WORKER * workers
    )


def plain_tune(candidates: int, seconds: float, workers: int, home: Path) -> None:
    space = optuna_ask.distributions(SPACE)
    asked = OptunaSearch(space, metric="value", mode="max", sampler=sampler(workers))
    share = {"cpu": ray.cluster_resources()["CPU"] / workers}
    tune.Tuner(
        tune.with_resources(tune.with_parameters(Climb, seconds=seconds), share),
        run_config=tune.RunConfig(
            storage_path=str(home),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
        tune_config=tune.TuneConfig(
            search_alg=asked,
            num_samples=candidates,
            max_concurrent_trials=workers,
            reuse_actors=True,
        ),
    ).fit()


def suggested(trial: optuna.Trial) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, over in SPACE.items():
        if isinstance(over, Choice):
            found[name] = trial.suggest_categorical(name, over.of)
        elif isinstance(over, Integer):
            found[name] = trial.suggest_int(name, over.low, over.high, log=over.log)
        else:
            found[name] = trial.suggest_float(name, over.low, over.high, log=over.log)
    return found


def threads(candidates: int, seconds: float, workers: int, home: Path) -> None:
    del home
    one = optuna.create_study(direction="maximize", sampler=sampler(workers))
    one.optimize(
        lambda trial: climb(suggested(trial), seconds),
        n_trials=candidates,
        n_jobs=workers,
    )


def processes(candidates: int, seconds: float, workers: int, home: Path) -> None:
    url = f"sqlite:///{home / 'optuna.db'}"
    optuna.create_study(storage=url, study_name="hill", direction="maximize")
    shares = [len(range(first, candidates, workers)) for first in range(workers)]
    joblib.Parallel(workers)(joblib.delayed(work)(url, share, seconds, workers) for share in shares)


def work(url: str, share: int, seconds: float, workers: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    one = optuna.load_study(storage=url, study_name="hill", sampler=sampler(workers))
    one.sampler.reseed_rng()  # else all draw the same
    one.optimize(lambda trial: climb(suggested(trial), seconds), n_trials=share)


def told(notes: Path, began: float, candidates: int) -> Result:
    """Return candidates an hour, all in all and once each worker has ended two; and the gaps.

    A gap lies between the last step of a candidate and the first of the next in one process.
    """
    lines = [line.split() for line in notes.read_text().splitlines()]
    rows = [(float(end), float(start), who) for who, start, end in lines]
    rows = sorted(rows)[:candidates]  # after that comes the exam of the winner
    ends = [end for end, _, _ in rows]
    workers = {who for _, _, who in rows}
    gaps = [
        after[1] - before[0]
        for who in workers
        for before, after in pairwise(row for row in rows if row[2] == who)
    ]
    warm = min(2 * len(workers), len(ends) - 1)
    return {
        "candidates": len(rows),
        "workers": len(workers),
        "an_hour": 3600 * len(rows) / (ends[-1] - began),
        "steady": 3600 * (len(ends) - warm) / (ends[-1] - ends[warm - 1]),
        "gap": statistics.median(gaps or [0.0]),
        "gap_95": float(np.quantile(gaps or [0.0], 0.95)),
    }


def play(who: str, candidates: int, seconds: float, workers: int, home: Path) -> Result:
    notes = home / "notes"
    os.environ[NOTES] = str(notes)
    players = {"ours": ours, "tune": plain_tune, "threads": threads, "processes": processes}
    started = who in ("ours", "tune") and connect()
    try:
        began = time.time()
        players[who](candidates, seconds, workers, home)
        return told(notes, began, candidates)
    finally:
        if started:
            ray.shutdown()


GENERATION = 8


def outcomes(n: int, rng: np.random.Generator) -> list[Outcome]:
    """Return *n* candidates drawn at random, in what a study keeps of them."""
    chance = Search(space=SPACE, candidates=n + 1, sampler="random", seed=int(rng.integers(2**31)))
    configs = [optuna_ask.ask(chance, number, []) for number in range(1, n + 1)]
    return [Outcome(c, "finished", {0: float(rng.normal())}) for c in configs]


def asks(most: int, home: Path) -> Result:
    """Return milliseconds a candidate, to ask and to tell, a generation after *most* were told.

    `again` is what the first question costs a driver that was started anew.
    """
    how = Search(space=SPACE, candidates=most + 2 * GENERATION, generation=GENERATION)
    known = outcomes(most + GENERATION, np.random.default_rng(0))
    first = known[:most]
    start = time.perf_counter()
    optuna_ask.ask(how, most, first)
    again, start = time.perf_counter() - start, time.perf_counter()
    for number in range(most + GENERATION, most + 2 * GENERATION):
        optuna_ask.ask(how, number, known)
    mine = (time.perf_counter() - start) / GENERATION
    one = optuna.create_study(
        storage=f"sqlite:///{home / 'optuna.db'}",
        sampler=optuna.samplers.TPESampler(seed=0, multivariate=True),
        direction="maximize",
    )
    whole = optuna_ask.distributions(SPACE)
    for outcome in first:
        params = dict(outcome.config)
        one.add_trial(
            optuna.trial.create_trial(value=outcome.value, params=params, distributions=whole)
        )
    suggested(one.ask())
    start = time.perf_counter()
    for outcome in known[most:]:
        trial = one.ask()
        suggested(trial)
        one.tell(trial, outcome.value)
    theirs = (time.perf_counter() - start) / GENERATION
    return {"ours": 1000 * mine, "again": 1000 * again, "optuna": 1000 * theirs}


def main(words: Sequence[str]) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".search-") as folder:  # /tmp may be memory
        home = Path(folder)
        if words[0] == "ask":
            result = asks(int(words[1]), home)
        else:
            result = play(words[0], int(words[1]), float(words[2]), int(words[3]), home)
        print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
