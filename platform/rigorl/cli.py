"""The front door: the only file that prints, and the only one that wires the house.

stdout is for results, stderr for progress. Exit codes: 0 done, 1 a trial failed for good,
2 the request is wrong, 130 and 143 stopped by a signal.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one trial, one core; read when torch loads

from rigorl import (
    arguments,
    checkpoint,
    contract,
    crash,
    estimate,
    experiment,
    opening,
    plan,
    report,
)
from rigorl.analysis.curves import Curve
from rigorl.analysis.scale import ends
from rigorl.analysis.verdict import Verdict
from rigorl.errors import RigorlError, SpecError, Stopped
from rigorl.outside import live, optuna_ask, yaml_file
from rigorl.outside.in_process import Alone
from rigorl.outside.journal import SqlJournal, State, export_study, import_study
from rigorl.outside.signals import Stop
from rigorl.spec import Experiment

DONE, FAILED, WRONG = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Do what *argv* asks, and return the exit code."""
    args = arguments.parser().parse_args(argv)
    _hear_warnings()
    try:
        with Stop().listening() as args.stop:
            return VERBS[args.verb](args)
    except RigorlError as error:
        _say(f"rigorl: {error}")
        return WRONG
    except Stopped as stopped:
        _say("rigorl: stopped; the same command goes on from here")
        return 128 + stopped.signal
    except BrokenPipeError:  # the reader of stdout has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE


def _hear_warnings() -> None:
    """Let what the house has to say in between go to stderr, and nobody else's words."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("rigorl: %(message)s"))
    house = logging.getLogger("rigorl")
    house.handlers, house.propagate = [handler], False


def check(args: argparse.Namespace) -> int:
    """Say of every spec whether it is valid, down to the corners of search spaces."""
    wrong = 0
    for path in args.specs:
        try:
            remarks = contract.check(yaml_file.read(path, args.set))
        except SpecError as error:
            wrong += 1
            _say(f"rigorl: {error}" if str(path) in str(error) else f"rigorl: {path}: {error}")
        else:
            print("; ".join([f"{path}: ok", *remarks]))
    return WRONG if wrong else DONE


def run(args: argparse.Namespace) -> int:
    """Tune, examine and judge; run again, do only what is left."""
    spec = _checked(args)
    with closing(opening.journal(args)) as journal:
        if args.fork:
            spec = _fork(spec, journal)
        if args.verb == "resume":
            _say(_resumed(args, spec, journal))
        verdict = _play(args, spec, journal)
        failed = bool(report.failures(verdict))
        crash.point("verdict")
        print(report.as_json(verdict) if args.json else report.markdown(verdict), flush=True)
    _say(_next_steps(args, spec))
    return FAILED if failed else DONE


def _play(args: argparse.Namespace, spec: Experiment, journal: SqlJournal) -> Verdict:
    """Return the verdict; say what keeps MLflow from showing everything, if anything does."""
    mirror = None
    status = "KILLED"
    shown: dict[str, str] = {}
    scales = None
    try:
        journal.begin(spec, experiment.codes(spec), accept=args.accept_code)
        with live.Progress(spec, journal), args.stop.gently():
            mirror = opening.mirror(args, journal, spec)
            cluster = opening.cluster(args, spec)
            verdict = experiment.run(spec, cluster, journal, optuna_ask.ask)
        status = "FAILED" if report.failures(verdict) else "FINISHED"
        shown, scales = _pages(spec, verdict, journal), ends(verdict.scales)
        journal.end("failed" if status == "FAILED" else "done")
    finally:
        if mirror:
            mirror.finish(status, shown, scales)
            if mirror.trouble:
                _say(f"rigorl: MLflow is behind ({mirror.trouble}); the next run catches up")
    return verdict


def show(args: argparse.Namespace) -> int:
    """Print the verdict as far as it can be given."""
    spec = yaml_file.read(args.spec, args.set)
    with closing(opening.known_journal(args)) as journal:
        verdict = experiment.verdict(spec, journal)
        if args.html:
            _write(args.html, report.html(verdict, _figures(spec, verdict, journal)))
    print(report.as_json(verdict) if args.json else report.markdown(verdict))
    return FAILED if report.failures(verdict) else DONE


def status(args: argparse.Namespace) -> int:
    """Print how far studies are."""
    with closing(opening.known_journal(args)) as journal:
        known = journal.names()
        wanted = [yaml_file.read(args.spec).name] if args.spec else known
        found = {name: _status(name, journal) for name in wanted if name in known}
    print(report.as_json(found) if args.json else report.status(found))
    return DONE


def carry_out(args: argparse.Namespace) -> int:
    """Print a study as text."""
    with closing(opening.known_journal(args)) as journal:
        text = "".join(f"{line}\n" for line in export_study(journal, opening.study(args, journal)))
    if args.out:
        _write(args.out, text)
    else:
        print(text, end="")
    return DONE


def carry_in(args: argparse.Namespace) -> int:
    """Take in what `export` wrote."""
    lines = yaml_file.text(args.file).splitlines()
    with closing(opening.journal(args)) as journal:
        print(f"{import_study(journal, lines)}: imported")
    return DONE


def cost(args: argparse.Namespace) -> int:
    """Print what a study will cost, before anything starts."""
    spec = _checked(args)
    found = estimate.costs(spec, Alone())
    wall = estimate.wall_s(found, spec)
    priced = {"arms": [cost._asdict() for cost in found], "wall_s": wall}
    print(report.as_json(priced) if args.json else report.costs(found, wall))
    return DONE


def agents(args: argparse.Namespace) -> int:
    """Print the algorithms of the house and their settings."""
    names = [args.name] if args.name else contract.house_agents()
    found = {name: contract.settings(name) for name in names}
    pages = [report.settings(name, about) for name, about in found.items()]
    print(report.as_json(found) if args.json else "\n\n".join(pages))
    return DONE


def ui(args: argparse.Namespace) -> NoReturn:
    """Become MLflow's server, on this machine only."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(args.port), "--backend-store-uri", opening.mlflow_uri(args)]
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    _say(f"rigorl: http://127.0.0.1:{args.port} (Ctrl-C ends it)")
    os.execvpe(command[0], command, os.environ | quiet)  # noqa: S606


def examine_machine(args: argparse.Namespace) -> int:
    """Print what is there and what is missing."""
    from rigorl.outside import doctor  # noqa: PLC0415  it loads Ray and MLflow

    found = doctor.findings(args.home, opening.mlflow_uri(args), args.port)
    lines = [f"{'ok  ' if f.ok else 'FAIL'}  {f.what}: {f.fact}" for f in found]
    print(report.as_json([f._asdict() for f in found]) if args.json else "\n".join(lines))
    return DONE if all(f.ok for f in found) else FAILED


def _checked(args: argparse.Namespace) -> Experiment:
    """Read the spec and refuse what cannot be played, before anything is created."""
    spec = yaml_file.read(args.spec, args.set)
    try:
        for remark in contract.check(spec):
            _say(f"rigorl: {remark}")
    except SpecError as error:
        raise SpecError(f"{args.spec}: {error.message}", error.at) from error
    return spec


def _pages(spec: Experiment, verdict: Verdict, journal: SqlJournal) -> dict[str, str]:
    """Return what is kept with the study: the verdict for people and machines, its picture."""
    return {
        "verdict.md": report.markdown(verdict),
        "verdict.json": report.as_json(verdict),
        "report.html": report.html(verdict, _figures(spec, verdict, journal)),
        "experiment.json": report.as_json(spec),
    }


def _figures(spec: Experiment, verdict: Verdict, journal: SqlJournal) -> list[str]:
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


def _status(name: str, journal: SqlJournal) -> dict[str, Any]:
    spec = journal.spec(name)
    assert spec is not None  # noqa: S101
    found = live.counts(spec, journal.states(name))
    arms = {f"{arm}, {phase}": count._asdict() for (arm, phase), count in found.items()}
    return {"state": journal.state(name), "arms": arms}


def _resumed(args: argparse.Namespace, spec: Experiment, journal: SqlJournal) -> str:
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


def _fork(spec: Experiment, journal: SqlJournal) -> Experiment:
    fork = opening.fork(spec, journal)
    if fork.name != spec.name:
        _say(f"rigorl: this runs as {fork.name!r}; `--set name={fork.name}` finds it again")
    return fork


def _next_steps(args: argparse.Namespace, spec: Experiment) -> str:
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


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise SpecError(
            f"--html must be a file one can write, but {path}: {error.strerror}; choose another"
        ) from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


VERBS = {
    "check": check,
    "plan": cost,
    "run": run,
    "resume": run,
    "status": status,
    "report": show,
    "export": carry_out,
    "import": carry_in,
    "agents": agents,
    "ui": ui,
    "doctor": examine_machine,
}
