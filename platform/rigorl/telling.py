"""What the front door tells: pages and pictures, what is kept, what to try next."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from rigorl import accounts, checkpoint, ledger, plan, report, why
from rigorl.analysis.verdict import Verdict
from rigorl.checklist import Item, checklist
from rigorl.checkpoint import Store
from rigorl.fitting import Node, never, short_of, trials_at_once
from rigorl.hiding import has_secret, shown
from rigorl.outside import live
from rigorl.outside.groups import Groups
from rigorl.outside.journal import SqlJournal, State, hosts
from rigorl.outside.provenance import software
from rigorl.outside.raised import Alarms
from rigorl.spec import Experiment
from rigorl.stories import told


def weighed(spec: Experiment, verdict: Verdict, journal: SqlJournal) -> Verdict:
    """Return *verdict* with what mattered to each arm that searched."""
    found = told(spec, journal).hunts
    if not found:
        return verdict
    from rigorl.outside.importance import importance  # noqa: PLC0415  it loads scikit-learn

    arms = dict(verdict.arms)
    for name, hunts in found.items():
        how = spec.arms[name].search
        assert how is not None  # noqa: S101
        if how.is_population:  # what mattered changed on the way
            continue
        outcomes = [outcome for hunt in hunts for outcome in hunt]
        arms[name] = replace(arms[name], importance=importance(how.space, outcomes))
    return replace(verdict, arms=arms)


def pages(spec: Experiment, verdict: Verdict, journal: SqlJournal) -> dict[str, str]:
    """Return what is kept with the study: the verdict for people and machines, its pictures."""
    from rigorl import pictures  # noqa: PLC0415  it loads Plotly and pandas

    seen = pictures.pictures(spec, verdict, journal)
    return {
        "verdict.md": report.markdown(verdict),
        "verdict.json": report.as_json(verdict),
        "report.html": _page(spec, verdict, journal, pictures.fragments(seen)),
        "experiment.json": report.as_json(spec),
        **pictures.files(spec, seen, journal),
    }


def page(spec: Experiment, verdict: Verdict, journal: SqlJournal) -> str:
    """Return all of it as HTML: verdict, pictures, checklist, ledger."""
    from rigorl import pictures  # noqa: PLC0415

    seen = pictures.fragments(pictures.pictures(spec, verdict, journal))
    return _page(spec, verdict, journal, seen)


def _page(spec: Experiment, verdict: Verdict, journal: SqlJournal, seen: Sequence[str]) -> str:
    items = checked(spec, verdict, journal)
    spent = ledger.page(ledger.ledger(spec, journal.states(spec.name)))
    return report.html(verdict, seen, [report.checklist(items), spent])


def checked(spec: Experiment, verdict: Verdict, journal: SqlJournal) -> list[Item]:
    """Return the checklist of reproducibility, filled in."""
    played = [
        f"{host}: {number} attempts" for host, number in hosts(journal.database, spec.name).items()
    ]
    return checklist(spec, verdict, software(), played)


def status(name: str, journal: SqlJournal) -> dict[str, Any]:
    spec = journal.spec(name)
    assert spec is not None  # noqa: S101
    states, state = journal.states(name), journal.state(name)
    found, raised = live.counts(spec, states), live.alarms(spec, states, Alarms(spec, journal))
    if state != "running":  # what its search stopped a moment ago runs no more
        found = {key: count._replace(running=0) for key, count in found.items()}
    arms = {f"{arm}, {phase}": count._asdict() for (arm, phase), count in found.items()}
    told = {"state": state, "arms": arms, "mlflow_behind": journal.behind(name)}
    return told | ({"alarms": raised} if spec.alarm else {})


def fits(spec: Experiment, nodes: Sequence[Node]) -> dict[str, Any]:
    """Return what is there, how many trials of *spec* it holds, and what it never will."""
    needs, strategy = spec.needs, spec.placement.strategy
    return {
        "nodes": [
            {"name": node.name, "total": node.total._asdict(), "free": node.free._asdict()}
            for node in nodes
        ],
        "now": trials_at_once(needs, strategy, nodes, free=True),
        "at_once": trials_at_once(needs, strategy, nodes),
        "short_of": short_of(needs, strategy, nodes),
        "never": never(needs, strategy, nodes),
    }


def whys(args: argparse.Namespace, name: str, journal: SqlJournal) -> dict[str, Any]:
    """Return what keeps the study *name* as a whole, what to type then, and what its trials."""
    spec = journal.spec(name)
    assert spec is not None  # noqa: S101
    kept = why.driving(journal, name)
    if kept and journal.state(name) != "done":
        same = _spec(args, args.set) if args.spec else "SPEC"
        again = f"rigorl run {same}{_kept(args)}"
        if args.address:
            again = f"rigorl submit {same} --address {_quoted(args.address)}"
        kept = f"{kept}; type `{again}`, as before, and it goes on"
    return {"driver": kept, "trials": why.whys(spec, journal, driven=not kept)}


def resumed(spec: Experiment, journal: SqlJournal, store: Store) -> str:
    """Say what is kept, what goes on, and what begins anew."""
    states = journal.states(spec.name)
    open_ = [state for state in states if not state.finished and not _is_settled(state)]
    groups = Groups(journal, spec)
    groups.meet([state.trial.id for state in open_])
    given_up = groups.pruned([state.trial.id for state in open_])
    open_ = [state for state in open_ if state.trial.id not in given_up]
    saved = {s.trial.id for s in open_ if checkpoint.checkpoints(store.below(s.trial.id))}
    lines = {
        s.trial.id: f"{s.trial.arm}, {s.trial.phase} seed {s.trial.seed}, "
        f"task {s.stage + 1} of {len(s.trial.tasks)}, last seen at step {s.step:,}"
        for s in open_
    }
    return accounts.resumed(
        kept=sum(state.finished for state in states),
        continued=[line for id_, line in lines.items() if id_ in saved],
        anew=[line for id_, line in lines.items() if id_ not in saved],
        to_come=max(0, sum(plan.counts(spec).values()) - len(states)),
    )


def _is_settled(state: State) -> bool:
    return state.failure is not None and state.failure.lasting


def next_steps(args: argparse.Namespace, spec: Experiment) -> str:
    """Say where to look, and what to try, in the words of this very call."""
    changes = [*args.set, f"name={spec.name}"] if args.fork else args.set
    same = f"{_spec(args, changes)}{_kept(args)}"
    storage = f" --storage {shlex.quote(args.storage)}" if args.storage else ""
    rigorl = sys.argv[0] if Path(sys.argv[0]).name == "rigorl" else "rigorl"
    return "\n".join(
        [
            "",
            "What next:",
            f"  {rigorl} ui{_home(args)}    every run, metric and figure, at http://127.0.0.1:5000"
            if args.mlflow != "none"
            else f"  {rigorl} status{_kept(args)}    how far every study is",
            f"  {rigorl} report {same} --html report.html    verdict and curves",
            f"  {rigorl} run {same}{storage}    again: it plays nothing twice",
        ]
    )


def distant_steps(args: argparse.Namespace) -> str:
    """Say how to go on with a study that a cluster plays, in the words of this very call."""
    same, at, kept = _spec(args, args.set), f" --address {_quoted(args.address)}", _kept(args)
    rigorl = sys.argv[0] if Path(sys.argv[0]).name == "rigorl" else "rigorl"
    return "\n".join(
        [
            "",
            "What next:",
            f"  {rigorl} logs {same} -f{at}    what it says, until it ends",
            f"  {rigorl} status {same}{at}{kept}    the job, and how far the study is",
            f"  {rigorl} status {same} --why{kept}    why trials wait, or failed",
            f"  {rigorl} stop {same}{at}    at the next checkpoint",
            f"  {rigorl} report {same}{kept}    the verdict, as far as it can be given",
        ]
    )


def _spec(args: argparse.Namespace, changes: Sequence[str]) -> str:
    words = [str(args.spec), *(word for change in changes for word in ("--set", change))]
    return shlex.join(words)


def _kept(args: argparse.Namespace) -> str:
    """Say where the study is kept, as far as the next command would not know by itself."""
    told = args.journal and args.journal != os.environ.get("RIGORL_JOURNAL")
    return _home(args) + (f" --journal {_quoted(args.journal)}" if told else "")


def _home(args: argparse.Namespace) -> str:
    return "" if args.home == Path(".rigorl") else f" --home {shlex.quote(str(args.home))}"


def _quoted(url: str) -> str:
    return shlex.quote(shown(url) if has_secret(url) else url)
