"""What a verdict rests on, and how it is looked up."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rigorl.analysis.curves import Curve, final_ST, last, normalise
from rigorl.analysis.scale import Scale, ends
from rigorl.analysis.tuning import Hunt
from rigorl.seeds import stream
from rigorl.spec import Experiment
from rigorl.trial import Failure, Report, Trial

Array = NDArray[np.float64]


class Evidence(NamedTuple):
    """What `verdict.judge` was given, and the scales that it measured."""

    spec: Experiment
    chosen: Mapping[str, Mapping[str, Any]]
    trials: Sequence[Trial]
    reports: Mapping[str, Sequence[Report]]
    failures: Mapping[str, Failure]
    scales: Mapping[str, Scale]
    hunts: Mapping[str, Sequence[Hunt]]

    def luck(self, what: str) -> np.random.SeedSequence:
        return stream(0, self.spec.name, "bootstrap", what)

    def tests(self, arm: str) -> list[Trial]:
        """Return the test trials of *arm* that finished, in the order of the seeds."""
        found = {t.seed: t for t in self.trials if t.phase == "test" and t.arm == arm}
        mine = [found[seed] for seed in self.spec.seeds.test if seed in found]
        return [trial for trial in mine if last(trial, self.reports) is not None]

    def is_complete(self, arm: str) -> bool:
        return arm in self.chosen and len(self.tests(arm)) == len(self.spec.seeds.test)

    def curves(self, arm: str) -> list[Curve]:
        return [Curve.of(trial, self.reports[trial.id]) for trial in self.tests(arm)]

    def returns_ST(self, arm: str) -> Array:  # noqa: N802
        return final_ST(self.tests(arm), self.reports)

    def scores_ST(self, arm: str) -> Array | None:  # noqa: N802
        zero_one = ends(self.scales)
        if zero_one is None:
            return None
        ends_T2 = np.array([zero_one[task.name] for task in self.spec.tasks])
        return normalise(self.returns_ST(arm), ends_T2[:, 0], ends_T2[:, 1])
