"""What the front door tells: pages and pictures, what is kept, what to try next."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from rigorl import checkpoint, plan, report
from rigorl.analysis.curves import Curve
from rigorl.analysis.verdict import Verdict
from rigorl.outside import live
from rigorl.outside.journal import SqlJournal, State
from rigorl.spec import Experiment


def pages(spec: Experiment, verdict: Verdict, journal: SqlJournal) -> dict[str, str]:
    """Return what is kept with the study: the verdict for people and machines, its picture."""
    return {
        "verdict.md": report.markdown(verdict),
        "verdict.json": report.as_json(verdict),
        "report.html": report.html(verdict, figures(spec, verdict, journal)),
        "experiment.json": report.as_json(spec),
    }


def figures(spec: Experiment, verdict: Verdict, journal: SqlJournal) -> list[str]:
    """Return the learning curves of the test trials, as far as they were played."""
    chosen = {name: arm.config for name, arm in verdict.arms.items() if arm.config is not None}
    ours = [t for arm in chosen for t in plan.trials(spec, arm, "test", chosen, spec.seeds.test)]
    reports = journal.reports({trial.id for trial in ours})
    curves: dict[str, list[Curve]] = {}
    for trial in ours:
        if trial.id in reports:
            curves.setdefault(trial.arm, []).append(Curve.of(trial, reports[trial.id]))
    if not curves:
        return []
    from rigorl.figures.curves import learning_curves  # noqa: PLC0415  it loads Plotly

    figure = learning_curves(spec, curves)
    return [str(figure.to_html(full_html=False, include_plotlyjs=True))]


def status(name: str, journal: SqlJournal) -> dict[str, Any]:
    spec = journal.spec(name)
    assert spec is not None  # noqa: S101
    found = live.counts(spec, journal.states(name))
    arms = {f"{arm}, {phase}": count._asdict() for (arm, phase), count in found.items()}
    return {"state": journal.state(name), "arms": arms}


def resumed(args: argparse.Namespace, spec: Experiment, journal: SqlJournal) -> str:
    """Say what is kept, what goes on, and what begins anew."""
    states = journal.states(spec.name)
    open_ = [state for state in states if not state.finished and not _is_settled(state)]
    saved = {
        s.trial.id for s in open_ if checkpoint.newest(args.home / "trials" / s.trial.id).folder
    }
    lines = {
        s.trial.id: f"{s.trial.arm}, {s.trial.phase} seed {s.trial.seed}, "
        f"task {s.stage + 1} of {len(s.trial.tasks)}, last seen at step {s.step:,}"
        for s in open_
    }
    return report.resumed(
        kept=sum(state.finished for state in states),
        continued=[line for id_, line in lines.items() if id_ in saved],
        anew=[line for id_, line in lines.items() if id_ not in saved],
        to_come=max(0, sum(plan.counts(spec).values()) - len(states)),
    )


def _is_settled(state: State) -> bool:
    return state.failure is not None and state.failure.lasting


def next_steps(args: argparse.Namespace, spec: Experiment) -> str:
    """Say where to look, and what to try, in the words of this very call."""
    home = "" if args.home == Path(".rigorl") else f" --home {args.home}"
    changes = [*args.set, f"name={spec.name}"] if args.fork else args.set
    same = f"{args.spec}{''.join(f' --set {change!r}' for change in changes)}{home}"
    rigorl = sys.argv[0] if Path(sys.argv[0]).name == "rigorl" else "rigorl"
    return "\n".join(
        [
            "",
            "What next:",
            f"  {rigorl} ui{home}    every run, metric and figure, at http://127.0.0.1:5000"
            if args.mlflow != "none"
            else f"  {rigorl} status{home}    how far every study is",
            f"  {rigorl} report {same} --html report.html    verdict and curves",
            f"  {rigorl} run {same}    again: it plays nothing twice",
        ]
    )


def distant_steps(args: argparse.Namespace) -> str:
    """Say how to go on with a study that a cluster plays, in the words of this very call."""
    same = f"{args.spec}{''.join(f' --set {shlex.quote(change)}' for change in args.set)}"
    at = f" --address {args.address}"
    kept = f" --home {shlex.quote(str(args.home))}"
    if args.journal:
        kept = f" --journal {shlex.quote(args.journal)}"
    rigorl = sys.argv[0] if Path(sys.argv[0]).name == "rigorl" else "rigorl"
    return "\n".join(
        [
            "",
            "What next:",
            f"  {rigorl} logs {same} -f{at}    what it says, until it ends",
            f"  {rigorl} status {args.spec}{at}{kept}    the job, and how far the study is",
            f"  {rigorl} status {args.spec} --why{kept}    why trials wait, or failed",
            f"  {rigorl} stop {same}{at}    at the next checkpoint",
            f"  {rigorl} report {same}{kept}    the verdict, as far as it can be given",
        ]
    )
