"""Play rotated_digits.yaml at four angles, and ask what grows with the angle.

    python experiments/continual/rotated_digits.py --home runs/digits

The trials of a seed at all angles share their first task to the bit, so growth is taken seed by
seed; intervals are 95 % bootstraps over seeds.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rigorl import plan
from rigorl.analysis import statistics
from rigorl.analysis.curves import Curve
from rigorl.outside import yaml_file
from rigorl.outside.journal import at_home
from rigorl.seeds import stream
from rigorl.spec import Experiment

SPEC = Path(__file__).with_name("rotated_digits.yaml")
ANGLES = (10, 30, 60, 80)
SHOWN = {"acc": "ACC", "min_acc": "min-ACC", "wf10": "WF10", "forg": "FORG"}


def turned(angle: int) -> list[str]:
    """Return what the command line says for *angle*."""
    return [f"name=rotated-{angle}", f"tasks.1.kwargs.rotation={angle}"]


def play(home: Path, angle: int) -> None:
    sets = [word for change in turned(angle) for word in ("--set", change)]
    command = ["-m", "rigorl", "run", str(SPEC), "--home", str(home), "--local", *sets]
    subprocess.run([sys.executable, *command], check=True, stdout=sys.stderr)


def measured(home: Path, spec: Experiment, arm: str) -> NDArray[np.float64]:
    """Return the measures in percent, seed x measure."""
    journal = at_home(home)
    trials = plan.trials(spec, arm, "test", {}, spec.seeds.test)
    reports = journal.reports([trial.id for trial in trials])
    journal.close()
    found = [Curve.of(trial, reports[trial.id]).continual(spec.windows) for trial in trials]
    return np.array([[100 * one[name] for name in SHOWN] for one in found])


def lines(home: Path) -> Iterator[str]:
    specs = {angle: yaml_file.read(SPEC, turned(angle)) for angle in ANGLES}
    for arm in specs[ANGLES[0]].arms:
        yield f"**{arm}**"
        yield ""
        yield "| degrees | " + " | ".join(SHOWN.values()) + " |"
        yield "| --- | " + " | ".join("---" for _ in SHOWN) + " |"
        by_angle_ASM = np.array([measured(home, specs[angle], arm) for angle in ANGLES])
        for angle, values_SM in zip(ANGLES, by_angle_ASM, strict=True):
            cells = [f"{v.mean():.1f} ± {v.std(ddof=1):.1f}" for v in values_SM.T]
            yield f"| {angle} | " + " | ".join(cells) + " |"
        yield ""
        names = list(SHOWN)
        fall_AS = 100 - by_angle_ASM[:, :, names.index("min_acc")]
        gap_AS = by_angle_ASM[:, :, names.index("wf10")]
        lost_AS = by_angle_ASM[:, :, names.index("forg")]
        for low in (0, 1):
            lost_S = lost_AS[-1] - lost_AS[low]
            for name, more_AS in (("WF10", gap_AS), ("100 - min-ACC", fall_AS)):
                more_S = more_AS[-1] - more_AS[low] - lost_S
                yield (
                    f"- From {ANGLES[low]} to {ANGLES[-1]} degrees {name} grows by "
                    f"{estimate(more_S + lost_S)}, forgetting by {estimate(lost_S)}: "
                    f"{estimate(more_S)} more."
                )
        yield ""


def estimate(values_S: NDArray[np.float64]) -> str:
    luck = stream(0, "rotated-digits")
    low, high = statistics.interval(values_S[:, None], statistics.means, luck)[1:]
    return f"{values_S.mean():.1f} [{low:.1f}, {high:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path("runs/digits"))
    home = parser.parse_args().home
    for angle in ANGLES:
        play(home, angle)
    print("\n".join(lines(home)))


if __name__ == "__main__":
    main()
