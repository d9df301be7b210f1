"""Play trials that sleep for a second, on a Ray of this machine, and print how long it took.

    python play_trials.py ours|cold|bare|tune TRIALS
    python play_trials.py reports|mirror REPORTS
    python play_trials.py submit TIMES

Twenty play at a time. `ours` and `bare`, which is tasks of Ray and nothing else, find their
processes warm; Tune cannot, so the start of its actors is in its time, as it is in that of `cold`.
`reports` makes as many reports as it can, `mirror` does so while MLflow is shown them. `submit`
sends a study to a cluster that has played one already, and waits for its first report.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import ray
from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator

from helpers.heads import head
from rigorl import experiment
from rigorl.outside import optuna_ask
from rigorl.outside.journal import SqlJournal, at_home
from rigorl.outside.mlflow_mirror import Mirror
from rigorl.outside.on_ray.actors import Actors, Record
from rigorl.outside.on_ray.cluster import RayCluster, connect
from rigorl.outside.on_ray.worker import Terms
from rigorl.outside.signals import Stop
from rigorl.plan import Agenda
from rigorl.resources import Needs
from rigorl.spec import Experiment

HERE = Path(__file__).parent
SECONDS = 1.0
SHARE = 0.1
"""Of a CPU, for each trial: two CPUs play twenty."""
AT_ONCE = 20
REPORTERS = 4
Result = dict[str, Any]


def study(name: str, trials: int, seconds: float, steps: int = 1) -> Experiment:
    """Return a study of sleeping trials, each of which reports at every step."""
    agent = {"name": "benchmarks.sleeper", "config": {"seconds": seconds}}
    budget = {"steps": steps, "exam_every": 1, "exam_episodes": 1, "exam_horizon": 1, "cpus": SHARE}
    parts = {
        "name": name,
        "question": "How long does it take to do nothing?",
        "arms": {"still": {"agent": agent}},
        "tasks": [{"name": "pole", "env": "CartPole-v1"}],
        "budget": budget,
        "seeds": {"test": list(range(trials))},
    }
    return msgspec.convert(parts, Experiment)


class Warm:
    """A cluster whose actors outlive a study."""

    def __init__(self, actors: Actors) -> None:
        self.actors = actors

    def play(self, agenda: Agenda, record: Record) -> None:
        self.actors.play(agenda, record)


def run(spec: Experiment, cluster: Any, journal: SqlJournal) -> float:
    """Return the seconds that a study takes."""
    journal.begin(spec, experiment.codes(spec))
    start = time.perf_counter()
    experiment.run(spec, cluster, journal, optuna_ask.ask)
    seconds = time.perf_counter() - start
    journal.end("done")
    return seconds


def ours(trials: int, home: Path) -> float:
    terms = Terms(str(home / "trials"), (Needs(SHARE),))
    with closing(at_home(home)) as journal, closing(Actors(terms, Stop(), spare=1)) as actors:
        for n in count():
            run(study(f"warm-{n}", 2 * AT_ONCE, SECONDS), Warm(actors), journal)
            if sum(worker.is_free for worker in actors.workers) == AT_ONCE:
                break
        return run(study("sleep", trials, SECONDS), Warm(actors), journal)


def bare(trials: int, home: Path) -> float:
    """Return the seconds in which so many tasks end, once twenty processes work side by side.

    Ray ends processes that have nothing to do, so the tasks that warm them up are not waited for.
    """
    del home
    task = ray.remote(sleep).options(num_cpus=SHARE)
    waiting = [task.remote() for _ in range(2 * AT_ONCE)]
    last: deque[int] = deque(maxlen=2 * AT_ONCE)
    while len(set(last)) < AT_ONCE:
        (done,), waiting = ray.wait(waiting)
        last.append(ray.get(done))
        waiting.append(task.remote())
    start = time.perf_counter()
    ray.get(waiting + [task.remote() for _ in range(trials - len(waiting))])
    return time.perf_counter() - start


def sleep() -> int:
    time.sleep(SECONDS)
    return os.getpid()


class Sleeper(tune.Trainable):  # type: ignore[misc]
    """What a person gives to Tune."""

    def step(self) -> dict[str, Any]:
        time.sleep(SECONDS)
        return {"done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        del new_config
        return True


def plain_tune(trials: int, home: Path) -> float:
    start = time.perf_counter()
    tune.Tuner(
        tune.with_resources(Sleeper, {"cpu": SHARE}),
        run_config=tune.RunConfig(
            storage_path=str(home),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
        tune_config=tune.TuneConfig(
            search_alg=BasicVariantGenerator(), num_samples=trials, reuse_actors=True
        ),
    ).fit()
    return time.perf_counter() - start


def cold(trials: int, home: Path) -> float:
    with closing(at_home(home)) as journal:
        spec = study("sleep", trials, SECONDS)
        return run(spec, RayCluster(home / "trials", (Needs(SHARE),)), journal)


def reports(wanted: int, home: Path, *, mirrored: bool = False) -> Result:
    """Return the reports a second between the first and the last in the journal."""
    terms = Terms(str(home / "trials"), (Needs(SHARE),))
    spec = study("reports", REPORTERS, 0.0, wanted // REPORTERS)
    with closing(at_home(home)) as journal, closing(Actors(terms, Stop(), spare=1)) as actors:
        run(study("warm", REPORTERS, SECONDS), Warm(actors), journal)
        uri = f"sqlite:///{home / 'mlflow.db'}"
        mirror = Mirror(uri, (home / "mlflow").as_uri(), journal, spec) if mirrored else None
        if mirror:
            mirror.start()
        journal.begin(spec, experiment.codes(spec))
        experiment.run(spec, Warm(actors), journal, optuna_ask.ask)
        rows = journal.rows(study=spec.name)
        rate = len(rows) / (rows[-1].at - rows[0].at) * 1000
        if not mirror:
            return {"rate": rate}
        behind, start = _behind(mirror, journal, spec), time.perf_counter()
        mirror.finish("FINISHED", {})
        caught_up = time.perf_counter() - start
        left = _behind(mirror, journal, spec)
    return {"rate": rate, "behind": behind, "seconds": caught_up, "left": left}


def _behind(mirror: Mirror, journal: SqlJournal, spec: Experiment) -> int:
    """Return how many rows MLflow was not shown yet."""
    shown = {trial.id: mirror.runs.shown(trial.id) for trial in journal.trials(spec.name)}
    return sum(row.seq > shown[row.report.trial] for row in journal.rows(study=spec.name))


FIRST = """
name: first-{n}
question: How long is the way to the first step?
arms: {{ppo: {{agent: {{name: ppo, config: {{n_steps: 8, minibatch: 8}}}}}}}}
tasks: [{{name: pole, env: CartPole-v1}}]
budget: {{steps: 16, exam_every: 8, exam_episodes: 1, exam_horizon: 1}}
seeds: {{test: [0]}}
"""


def submit(times: int, home: Path) -> Result:
    """Return the median of the seconds from `rigorl submit` to the first report, of PPO.

    That comes after 8 steps, an update and an exam: the first step itself is a little earlier.
    """
    seconds = []
    with head(os.environ) as cluster:
        for n in range(times + 1):
            spec = home / f"first-{n}.yaml"
            spec.write_text(FIRST.format(n=n))
            words = [str(spec), "--address", cluster.address, "--home", str(home), "--keep-on-head"]
            start = time.time()
            command = [sys.executable, "-m", "rigorl", "submit", *words, "--mlflow", "none"]
            subprocess.run([*command, "--wait"], check=True, stdout=subprocess.DEVNULL)
            with closing(at_home(home)) as journal:
                seconds.append(journal.rows(study=f"first-{n}")[0].at / 1000 - start)
    return {"seconds": statistics.median(seconds[1:])}  # the cluster is warm by then


def on_ray(who: str, number: int, home: Path) -> Result:
    started = connect()
    try:
        if who in ("reports", "mirror"):
            return reports(number, home, mirrored=who == "mirror")
        players = {"ours": ours, "bare": bare, "tune": plain_tune, "cold": cold}
        return {"seconds": players[who](number, home)}
    finally:
        if started:
            ray.shutdown()


def main(words: Sequence[str]) -> None:
    who, number = words[0], int(words[1])
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".trials-") as folder:  # /tmp may be memory
        home = Path(folder)
        print(json.dumps((submit if who == "submit" else partial(on_ray, who))(number, home)))


if __name__ == "__main__":
    main(sys.argv[1:])
