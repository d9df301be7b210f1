"""Play digits.yaml, and hold what comes of it to the numbers that are known.

    python experiments/continual/digits_table.py --home runs/digits

What is known is a mean over five seeds, in percent, and for some cells its standard deviation.
A cell agrees if our mean is within two standard errors of the difference of both means. One play
serves all rows of an arm: rare exams are a part of the exams after each update.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rigorl import plan
from rigorl.analysis import continual
from rigorl.analysis.curves import Curve
from rigorl.outside import yaml_file
from rigorl.outside.journal import at_home

SPEC = Path(__file__).with_name("digits.yaml")
WINDOWS = (10, 100)
SEEDS = 5
"""Of what is known."""
NAMES = {"acc": "ACC", "forg": "FORG", "la": "LA", "min_acc": "min-ACC", "wc_acc": "WC-ACC"}
NAMES |= {f"wf{window}": f"WF{window}" for window in WINDOWS}


class Row(NamedTuple):
    """An arm, examined each so many updates (0: at the ends of tasks alone)."""

    arm: str
    every: int
    known: dict[str, tuple[float, float | None]]


KNOWN = [
    Row("er-100", 1, {"acc": (89.6, 2.0), "forg": (10.4, 2.6), "la": (97.9, None),
                      "min_acc": (21.8, 7.1), "wc_acc": (36.5, 5.8), "wf10": (64.4, 5.4),
                      "wf100": (65.9, None)}),
    Row("er-100", 0, {"acc": (89.6, None), "forg": (10.4, None), "la": (97.9, None),
                      "min_acc": (88.3, 2.6), "wc_acc": (89.6, None), "wf10": (8.3, None),
                      "wf100": (8.3, None)}),
    Row("er-100", 5, {"min_acc": (26.9, None), "wc_acc": (40.5, None), "wf10": (59.3, None)}),
    Row("er-100", 10, {"min_acc": (27.7, None), "wc_acc": (41.1, None), "wf10": (57.2, None)}),
    Row("er-20", 1, {"acc": (76.2, 4.7), "forg": (27.9, None), "la": (98.5, None),
                     "min_acc": (13.7, 4.1), "wc_acc": (30.2, None), "wf10": (69.8, None),
                     "wf100": (71.6, None)}),
    Row("er-all", 1, {"acc": (92.7, 0.9), "forg": (6.0, None), "la": (97.5, None),
                      "min_acc": (25.5, 4.0), "wc_acc": (39.2, None), "wf10": (61.9, None),
                      "wf100": (63.3, None)}),
    Row("er-fifth", 1, {"acc": (91.5, 1.1), "forg": (5.2, None), "la": (95.7, None),
                        "min_acc": (80.7, 2.7), "wc_acc": (82.7, None), "wf10": (20.2, None),
                        "wf100": (21.4, None)}),
    Row("er-slow", 1, {"acc": (85.7, 2.6), "forg": (13.8, None), "la": (96.7, None),
                       "min_acc": (39.1, 2.2), "wc_acc": (49.8, None), "wf10": (42.0, None),
                       "wf100": (48.9, None)}),
    Row("finetune", 1, {"acc": (19.2, None), "forg": (99.6, None), "la": (98.9, None),
                        "min_acc": (0.0, None), "wc_acc": (19.2, None), "wf10": (86.0, None),
                        "wf100": (86.0, None)}),
]  # fmt: skip


def measured(curve: Curve, every: int) -> dict[str, float]:
    """Return the measures of *curve* in percent, with an exam each *every* updates of a task."""
    ends_N = np.append(np.diff(curve.stage_N) > 0, True)
    since_N = curve.update_N - np.append(0, curve.update_N[ends_N])[curve.stage_N]
    kept_N = ends_N | (since_N % every == 0 if every else False)
    stage_N = curve.stage_N[kept_N]
    learned_at_T = [int(np.flatnonzero(stage_N == task)[-1]) for task in range(len(curve.tasks))]
    found = continual.summary(
        curve.begun_TN[:, kept_N], learned_at_T, WINDOWS, curve.update_N[kept_N]
    )
    return {name: 100 * found[name] for name in NAMES}


def curves(home: Path, arm: str) -> list[Curve]:
    spec, journal = yaml_file.read(SPEC), at_home(home)
    trials = plan.trials(spec, arm, "test", {}, spec.seeds.test)
    reports = journal.reports([trial.id for trial in trials])
    journal.close()
    return [Curve.of(trial, reports[trial.id]) for trial in trials]


def lines(home: Path) -> Iterator[str]:
    """Yield the page."""
    yield "| arm | an exam each | " + " | ".join(NAMES.values()) + " |"
    yield "| --- | --- | " + " | ".join("---" for _ in NAMES) + " |"
    distances = []
    for arm, every, known in KNOWN:
        by_seed = [measured(curve, every) for curve in curves(home, arm)]
        cells = []
        for name in NAMES:
            ours_S = np.array([one[name] for one in by_seed])
            cells.append(cell(ours_S, known.get(name)))
            if name in known and known[name][1] is not None:
                distances.append((abs(distance(ours_S, *known[name])), arm, NAMES[name]))
        when = {0: "task", 1: "update"}.get(every, f"{every} updates")
        yield f"| {arm} | {when} | " + " | ".join(cells) + " |"
    agreeing = sum(far <= 2 for far, _, _ in distances)
    far, arm, name = max(distances)
    yield ""
    yield (
        f"{agreeing} of {len(distances)} cells whose deviation is known agree within two standard "
        f"errors of the difference; the farthest is {name} of {arm}, {far:.1f} of them away."
    )


def distance(ours_S: NDArray[np.float64], mean: float, deviation: float) -> float:
    """Return how far our mean lies from the known one, in standard errors of the difference."""
    error = np.sqrt(ours_S.var(ddof=1) / len(ours_S) + deviation**2 / SEEDS)
    return float((ours_S.mean() - mean) / error)


def cell(ours_S: NDArray[np.float64], known: tuple[float, float | None] | None) -> str:
    text = f"{ours_S.mean():.1f} ± {ours_S.std(ddof=1):.1f}"
    if known is None:
        return text
    mean, deviation = known
    if deviation is None:
        return f"{text} ({mean})"
    return f"{text} ({mean} ± {deviation}: {distance(ours_S, mean, deviation):+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path("runs/digits"))
    home = parser.parse_args().home
    command = [sys.executable, "-m", "rigorl", "run", str(SPEC), "--home", str(home), "--local"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    print("\n".join(lines(home)))


if __name__ == "__main__":
    main()
