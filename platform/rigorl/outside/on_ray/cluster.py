"""A study on a Ray cluster: the one that RAY_ADDRESS names, or this machine, started on demand."""

import os
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import ray
from ray._private import worker

from rigorl.checkpoint import try_out
from rigorl.errors import SpecError
from rigorl.outside import bucket
from rigorl.outside.on_ray import shared
from rigorl.outside.on_ray.actors import Actors, Record
from rigorl.outside.on_ray.placing import amounts
from rigorl.outside.on_ray.worker import Terms
from rigorl.outside.signals import Stop
from rigorl.plan import Agenda
from rigorl.resources import ExamSpec, Needs, Strategy

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
ELSEWHERE = "set RAY_ADDRESS to a cluster that has them"


class RayCluster:
    """A cluster whose trials need each of *needs*: the learner's, its crew's, its exams'."""

    def __init__(
        self,
        storage: Path | str,
        needs: Sequence[Needs] = (Needs(),),
        strategy: Strategy = "PACK",
        exam: ExamSpec | None = None,
        crew: int = 0,
        stop: Stop | None = None,
    ) -> None:
        self.terms = Terms(
            bucket.located(storage), tuple(needs), strategy, exam or ExamSpec(), crew
        )
        self.stop = stop or Stop()

    def play(self, agenda: Agenda, record: Record) -> None:
        if agenda.over:
            return  # Ray need not start for nothing
        try_out(bucket.opened(self.terms.storage, bucket.AT_FIRST))
        ours = connect()
        here = ours and not os.environ.get("RAY_ADDRESS")
        try:
            if here:
                check_room(self.terms)
            shared.check(self.terms.storage)
            with closing(Actors(self.terms, self.stop, spare=1 if here else None)) as actors:
                actors.play(agenda, record)
        except (SystemError, KeyboardInterrupt):  # so comes out of Ray what a signal raises there
            self.stop.end()
            raise
        finally:
            if ours:
                ray.shutdown()
        self.stop.end()


def connect() -> bool:
    """Join the cluster at RAY_ADDRESS, or start one here. Return whether it is ours to end."""
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS")
    here = {} if address else {"include_dashboard": False}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local",  # and not whatever runs on this machine already
            log_to_driver=False,
            logging_level="error",
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
            **here,
        )
    except ConnectionError as error:
        raise SpecError(
            f"RAY_ADDRESS must name a Ray cluster that answers, but {address}: {error}; "
            "start it, or unset RAY_ADDRESS to use this machine"
        ) from error
    signal.signal(signal.SIGTERM, handler)  # Ray puts its own there
    # What Ray has to say of dead workers would come between our results, on stdout.
    worker._worker_logs_enabled = False  # noqa: SLF001
    return True


def resources() -> dict[str, float]:
    """Return what Ray would have to work with here."""
    ours = connect()
    try:
        found: dict[str, float] = ray.cluster_resources()
        return found
    finally:
        if ours:
            ray.shutdown()


def check_room(terms: Terms) -> None:
    """Refuse what would wait for ever. A cluster may grow; this machine does not."""
    there = ray.cluster_resources()
    asked: Counter[str] = Counter()
    for one in terms.needs:
        asked.update(amounts(one))
    for kind, amount in asked.items():
        if amount > there.get(kind, 0):
            raise SpecError(_refusal(kind, amount, there.get(kind, 0), terms), _at(kind, terms))
    (labels,) = (node["Labels"] for node in ray.nodes())
    for one in terms.needs:
        for key, value in one.labels.items():
            if labels.get(key) != value:
                raise SpecError(
                    f"labels must be those of a node, but {key}: {value} is asked for and this "
                    f"machine has {labels.get(key, 'none such')}; {ELSEWHERE}",
                    "$.placement",
                )
    if terms.strategy == "STRICT_SPREAD" and len(terms.needs) > 1:
        raise SpecError(
            "a crew that is spread strictly must have a node for each of its members, but this "
            f"machine is one node; write SPREAD, or {ELSEWHERE}",
            "$.placement.strategy",
        )


def _refusal(kind: str, asked: float, there: float, terms: Terms) -> str:
    name = {"CPU": "cpus", "GPU": "gpus"}.get(kind, kind)
    amount = (lambda x: f"{x / 2**30:.3g} GiB") if kind == "memory" else "{:g}".format
    crew = len(terms.needs) - 1
    who = f" by a learner and {crew} others of its trial" if crew else ""
    return (
        f"{name} must be at most what this machine has, but {amount(asked)} are asked for{who} "
        f"and {amount(there)} are there; ask for less, or {ELSEWHERE}"
    )


def _at(kind: str, terms: Terms) -> str:
    """Return where in the file one asked for too much."""
    learner = amounts(terms.needs[0]).get(kind, 0)
    if learner <= ray.cluster_resources().get(kind, 0):
        return "$.placement.crew" if terms.crew else "$.exam.crew"
    if kind in ("CPU", "GPU"):
        return f"$.budget.{kind.lower()}s"
    return f"$.placement.learner.{'memory' if kind == 'memory' else 'resources'}"
