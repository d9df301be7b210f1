"""What died while it was played, how often, and whether it is tried again."""

from collections import Counter

from rigorl.outside.on_ray.deaths import Death
from rigorl.outside.on_ray.worker import failure
from rigorl.trial import Bundle, Event, Trouble

FAILURES = 2
"""How often a bundle whose worker died is tried again before it counts as failed."""
LOSSES = 20
"""How often a bundle whose node was lost is tried again."""


class Tries:
    """Counts deaths. Nodes come and go on a large cluster: a lost one is no fault of a bundle."""

    def __init__(self) -> None:
        self._workers: Counter[str] = Counter()
        self._nodes: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def mourn(self, bundle: Bundle, death: Death) -> tuple[bool, list[Event]]:
        """Return whether *bundle* is to be tried again, and what is to be recorded of its death."""
        counted, most = (self._nodes, LOSSES) if death.node_lost else (self._workers, FAILURES)
        counted[bundle.id] += 1
        first = self._first.setdefault(bundle.id, death.words)
        told: list[Event] = [Trouble(trial=t.id, cause=death.words) for t in bundle.trials]
        if counted[bundle.id] <= most:
            return True, told
        what = "node was lost" if death.node_lost else "worker died"
        last = "" if death.words == first else f", the last time: {death.words}"
        cause = f"{first} (its {what} {counted[bundle.id]} times{last})"
        return False, [*told, failure(bundle, cause)]
