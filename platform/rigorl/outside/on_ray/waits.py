"""What room has been asked for and is not given, and why: said when it changes."""

import time
from collections.abc import Sequence

from rigorl.outside.on_ray.nodes import nodes, short_of
from rigorl.resources import Needs, Strategy
from rigorl.trial import Bundle, Trial, Waiting

PATIENCE = 5.0
"""Seconds that a bundle may wait before it is said why."""
LOOK = 3.0
"""Seconds between two looks at the nodes."""


class Waits:
    """The bundles that wait for room."""

    def __init__(self, needs: Sequence[Needs], strategy: Strategy) -> None:
        self.needs, self.strategy = needs, strategy
        self._asked: dict[str, tuple[Bundle, float]] = {}
        self._said: dict[str, str] = {}
        self._looked = 0.0

    def ask(self, bundle: Bundle) -> None:
        self._asked[bundle.id] = bundle, time.monotonic()

    def begin(self, bundle: Bundle) -> None:
        """Note that *bundle* is played, or never will be: that it waited need not be said."""
        self._asked.pop(bundle.id, None)
        self._said.pop(bundle.id, None)

    def news(self) -> tuple[list[Trial], list[Waiting]]:
        """Return what is to be recorded now, with the trials that it is about."""
        now = time.monotonic()
        late = [bundle for bundle, since in self._asked.values() if now - since > PATIENCE]
        if not late or now - self._looked < LOOK:
            return [], []
        self._looked = now
        cause = short_of(self.needs, self.strategy, nodes()) or "room is there; its process starts"
        new = [bundle for bundle in late if self._said.get(bundle.id) != cause]
        self._said |= {bundle.id: cause for bundle in new}
        trials = [trial for bundle in new for trial in bundle.trials]
        return trials, [Waiting(trial=trial.id, cause=cause) for trial in trials]
