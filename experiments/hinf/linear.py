"""Play what H-infinity learns of linear systems, and hold it to what is exact.

    python experiments/hinf/linear.py [--home runs/linear] [--drawn 6] [--seeds 5 6 7 8 9]
        [--only scalar mass drawn] [--first 12] [--set arms.hinf.agent.config.margin=0]

K is read off each final policy, u = -K x, by asking it; gain, cost and the least cost under the
bound follow from it exactly (`rigorl.analysis.lq`). Systems are drawn one after another by
generators of the seeds `first`, `first` + 1 and so on, with two to six states in turn; those are
left out whose LQR's gain lies within a tenth of the least that there is, for there is nothing to
bound there. What is drawn before 12 or from 96 to 119, and test seeds before 5, were looked at
before the settings were what they are. What is played with `--set` needs a home of its own.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rigorl import contract, plan
from rigorl.analysis import lq
from rigorl.analysis.lq_optimum import constrained
from rigorl.outside import yaml_file
from rigorl.outside.journal import at_home
from rigorl.spec import Experiment
from rigorl.tasks.world import Pusher

HERE = Path(__file__).parent
SIZES = ((2, 1, 1), (3, 1, 1), (3, 2, 2), (4, 2, 2), (5, 2, 1), (6, 3, 2))
"""States, inputs, forces of what is drawn."""
BETWEEN, ROOM, USUAL, SMALL = 0.4, 1.1, 0.15, 1e-3
Matrix = NDArray[np.float64]


class Learned(NamedTuple):
    """What one trial learned: K, its gain and cost, and lambda, a mean over the last quarter.

    `found` is the ratio of cost to energy that fresh attackers come to, as a share of the worst
    that there is, the gain's square.
    """

    K: Matrix
    gain: float
    cost: float
    price: float
    found: float | None


def drawn(luck: int) -> lq.System | None:
    """Return a system in units in which the LQR's states and actions deviate by `USUAL`."""
    of = lq.random_system(np.random.default_rng(luck), *SIZES[luck % len(SIZES)])
    K = lq.lqr(of.A, of.B, of.Q, of.R)
    if lq.l2_gain(*of, K) < ROOM * lq.attainable(*of):
        return None
    X = lq.summed((of.A - of.B @ K).T, of.D @ of.D.T)
    x_N, u_M = (np.sqrt(np.diag(S)) / USUAL for S in (X, K @ X @ K.T))
    N, M = np.diag(x_N), np.diag(u_M)
    A = np.linalg.solve(N, of.A @ N)
    B, D = (np.linalg.solve(N, S) for S in (of.B @ M, of.D))
    return lq.system(A, B, D, N @ of.Q @ N, M @ of.R @ M)


def bound(of: lq.System) -> float:
    """Return a bound on the gain's square, between the least one and the LQR's."""
    least, usual = lq.attainable(*of), lq.l2_gain(*of, lq.lqr(of.A, of.B, of.Q, of.R))
    return (least + BETWEEN * (usual - least)) ** 2


def settings(luck: int, of: lq.System, discount: float) -> list[str]:
    """Return what makes drawn_lq.yaml the study of *of*."""
    root = discount**0.5
    kwargs = {name: (getattr(of, name) / root).tolist() for name in "ABD"}
    kwargs |= {name: getattr(of, name).tolist() for name in "QR"} | {"steps": 300, "bound": 2}
    return [
        f"name=drawn-lq-{luck}",
        f"tasks.0.kwargs={json.dumps(kwargs)}",
        f"arms.hinf.agent.config.eta={bound(of)}",
    ]


def play(file: str, changes: Sequence[str], home: Path) -> Experiment:
    command = [sys.executable, "-m", "rigorl", "run", str(HERE / file), "--home", str(home)]
    sets = [word for change in changes for word in ("--set", change)]
    subprocess.run([*command, "--mlflow", "none", *sets], check=True, stdout=sys.stderr)
    return yaml_file.read(HERE / file, list(changes))


def system(spec: Experiment, discount: float = 1.0) -> lq.System:
    """Return the system of *spec*, or the one whose undiscounted problem a learner solves there."""
    kwargs = spec.tasks[0].kwargs
    A, B, D = (discount**0.5 * np.atleast_2d(kwargs[name]) for name in "ABD")
    return lq.system(A, B, D, kwargs["Q"], kwargs["R"])


def undiscounted(spec: Experiment, arm: str) -> lq.System:
    return system(spec, spec.arms[arm].agent.config["discount"])


def learned(spec: Experiment, arm: str, home: Path) -> list[Learned]:
    """Return what each test seed of *arm* learned."""
    of, journal = undiscounted(spec, arm), at_home(home)
    trials = plan.trials(spec, arm, "test", {}, spec.seeds.test)
    Ks = [asked(home / "trials" / trial.id / "policies", len(of.A)) for trial in trials]
    attacks, found = attacked(spec, arm, home, of, Ks), []
    for trial, K, worst in zip(trials, Ks, attacks, strict=True):
        said = [report.metrics for report in journal.reports([trial.id])[trial.id]]
        price = float(np.mean([one.get("lambda", 0.0) for one in said[-len(said) // 4 :]]))
        gain = lq.l2_gain(*of, K)
        share = None if worst is None else worst / gain**2
        found.append(Learned(K, gain, lq.h2_cost(*of, K), price, share))
    journal.close()
    return found


def attacked(
    spec: Experiment, arm: str, home: Path, of: lq.System, Ks: Sequence[Matrix]
) -> list[float | None]:
    """Return the worst ratio of cost to energy that fresh attackers found, seed by seed."""
    mine = [name for name, other in spec.arms.items() if other.after == arm]
    if not mine:
        return [None] * len(spec.seeds.test)
    trials = plan.trials(spec, mine[0], "test", {}, spec.seeds.test)
    steps = spec.tasks[0].kwargs["steps"]
    ratios: list[float | None] = []
    for trial, K in zip(trials, Ks, strict=True):
        found = contract.load_policies(home / "trials" / trial.id / "policies")
        pushing = [policy.push for policy in found.values() if isinstance(policy, Pusher)]
        ratios.append(max(ratio(of, K, answer(push, len(of.A)), steps) for push in pushing))
    return ratios


def answer(push: Callable[[Matrix], Matrix], states: int) -> tuple[Matrix, Matrix]:
    """Return kappa and b of a disturber that answers small states with d = kappa x + b."""
    small_NN = SMALL * np.eye(states)
    force_NF = push(np.concatenate([small_NN, -small_NN]))
    kappa: Matrix = (force_NF[:states] - force_NF[states:]).T / (2 * SMALL)
    return kappa, force_NF.mean(0)


def ratio(of: lq.System, K: Matrix, d: tuple[Matrix, Matrix], steps: int) -> float:
    """Return the cost of d = kappa x + b + noise over its energy, in so many *steps* from rest.

    It is exact, and at most the gain's square whatever d is, where `lq.worst_ratio` has no answer
    for a loop that d makes unstable. The greater one counts of noise alone and b alone: what swings
    is not seen without the one, what only leans not without the other.
    """
    kappa, b_F = d
    paid, M = of.Q + K.T @ of.R @ K, of.A - of.B @ K + of.D @ kappa
    X, m_N, costs, energies = np.zeros_like(M), np.zeros(len(M)), np.zeros(2), np.zeros(2)
    for _ in range(steps):
        d_F = kappa @ m_N + b_F
        costs += np.trace(paid @ X), m_N @ paid @ m_N
        energies += np.trace(kappa @ X @ kappa.T) + of.D.shape[1], d_F @ d_F
        X, m_N = M @ X @ M.T + of.D @ of.D.T, M @ m_N + of.D @ b_F
    return float(np.max(costs[energies > 0] / energies[energies > 0]))


def asked(folder: Path, states: int) -> Matrix:
    """Return K of the policy in *folder*: u = -K x + what it does at rest."""
    (policy,) = contract.load_policies(folder).values()
    eye_NN = np.eye(states)
    action_NM = policy(np.concatenate([eye_NN, -eye_NN])).astype(np.float64)
    K: Matrix = -(action_NM[:states] - action_NM[states:]).T / 2
    return K


def row(name: str, arm: str, of: lq.System, eta: float | None, found: list[Learned]) -> str:
    gains_S, costs_S = (np.array([getattr(one, key) for one in found]) for key in ("gain", "cost"))
    limit, price, least = "", "", lq.h2_cost(*of, lq.lqr(of.A, of.B, of.Q, of.R))
    if eta is not None:
        limit = f"{eta**0.5:.4g} ({percent(gains_S / eta**0.5)})"
        exact = "no bound"
        if eta > lq.attainable(*of) ** 2:
            K, due = constrained(*of, eta)
            least = lq.h2_cost(*of, K)
            theirs = [constrained(*of, gain**2)[1] for gain in gains_S]
            exact = f"{due:.3g}, {np.median(theirs):.3g}"
        price = f"{spread([one.price for one in found])} ({exact})"
    shares = [one.found for one in found if one.found is not None]
    worst = f"{percent(np.array(shares), of=0)}" if shares else ""
    cells = (name, arm, spread(gains_S), limit, percent(costs_S / least), price, worst)
    return "| " + " | ".join(cells) + " |"


def spread(values: Sequence[float] | NDArray[Any]) -> str:
    low, middle, high = ends(values)
    return f"{middle:.4g} [{low:.4g}, {high:.4g}]"


def ends(values: Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
    """Return the least, the middle and the greatest, of which some may be inf."""
    return np.array([np.min(values), np.median(values), np.max(values)])


def percent(values_S: NDArray[Any], of: float = 1.0) -> str:
    low, middle, high = 100 * (ends(values_S) - of)
    sign = "+" if of else ""
    return f"{middle:{sign}.1f} % [{low:{sign}.1f}, {high:{sign}.1f}]"


def studies(arguments: argparse.Namespace) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the studies: a name, a file and what is set there."""
    seeds = [f"seeds.test={arguments.seeds}"]
    yield "scalar", "scalar_lq.yaml", seeds
    yield "mass", "double_integrator.yaml", seeds
    left = arguments.drawn
    for luck in count(arguments.first):
        if not left:
            return
        of = drawn(luck)
        if of is not None:
            left -= 1
            size = " x ".join(map(str, SIZES[luck % len(SIZES)]))
            yield f"drawn {luck} ({size})", "drawn_lq.yaml", [*settings(luck, of, 0.99), *seeds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path("runs/linear"))
    parser.add_argument("--drawn", type=int, default=6)
    parser.add_argument("--first", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7, 8, 9])
    kinds = ("scalar", "mass", "drawn")
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    price = "lambda (exact at the bound, at what it kept)"
    print(f"| system | arm | gain | bound (off by) | cost above the least | {price} | worst |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, file, changes in studies(arguments):
        if name.split()[0] not in arguments.only:
            continue
        spec = play(file, [*changes, *arguments.set], arguments.home)
        for arm, what in spec.arms.items():
            if what.after is None:
                config = what.agent.config
                free = config.get("nominal") == 1 or config.get("pays") == "cost"
                found = learned(spec, arm, arguments.home)
                eta = None if free else config["eta"]
                print(row(name, arm, undiscounted(spec, arm), eta, found), flush=True)


if __name__ == "__main__":
    main()
