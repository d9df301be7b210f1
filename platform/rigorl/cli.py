"""The front door: the only file that prints, and the only one that wires the house.

stdout is for results, stderr for progress. Exit codes: 0 done, 1 a trial failed for good,
2 the request is wrong, 130 and 143 stopped by a signal.
"""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one trial, one core; read when torch loads

from rigorl import arguments, contract, estimate, experiment, plan, report
from rigorl.analysis.curves import Curve
from rigorl.analysis.scale import ends
from rigorl.analysis.verdict import Verdict
from rigorl.errors import IncompleteResults, RigorlError, SpecError, Stopped
from rigorl.experiment import Cluster
from rigorl.outside import live, optuna_ask, yaml_file
from rigorl.outside.in_process import Alone, InProcess
from rigorl.outside.journal import SqlJournal, at_home
from rigorl.spec import Experiment

DONE, FAILED, WRONG = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Do what *argv* asks, and return the exit code."""
    args = arguments.parser().parse_args(argv)
    try:
        with _stoppable():
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
    with closing(at_home(args.home)) as journal:
        mirror = _mirror(args, journal, spec)
        status = "KILLED"
        try:
            with live.Progress(spec, journal):
                cluster = _cluster(args, spec)
                verdict = experiment.run(spec, cluster, journal, optuna_ask.ask)
            failed = bool(report.failures(verdict))
            status = "FAILED" if failed else "FINISHED"
            print(report.as_json(verdict) if args.json else report.markdown(verdict), flush=True)
        finally:
            if mirror:
                ended = status != "KILLED"
                shown = _pages(spec, verdict, journal) if ended else {}
                mirror.finish(status, shown, ends(verdict.scales) if ended else None)
    if mirror and mirror.trouble:
        _say(f"rigorl: MLflow is behind ({mirror.trouble}); the next run catches up")
    _say(_next_steps(args))
    return FAILED if failed else DONE


def show(args: argparse.Namespace) -> int:
    """Print the verdict as far as it can be given."""
    spec = yaml_file.read(args.spec, args.set)
    with closing(_known(args)) as journal:
        verdict = experiment.verdict(spec, journal)
        if args.html:
            _write(args.html, report.html(verdict, _figures(spec, verdict, journal)))
    print(report.as_json(verdict) if args.json else report.markdown(verdict))
    return FAILED if report.failures(verdict) else DONE


def status(args: argparse.Namespace) -> int:
    """Print how far studies are."""
    with closing(_known(args)) as journal:
        known = journal.names()
        wanted = [yaml_file.read(args.spec).name] if args.spec else known
        found = {name: _status(name, journal) for name in wanted if name in known}
    print(report.as_json(found) if args.json else report.status(found))
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
    command += ["--port", str(args.port), "--backend-store-uri", _mlflow_uri(args)]
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

    found = doctor.findings(args.home, _mlflow_uri(args), args.port)
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


def _cluster(args: argparse.Namespace, spec: Experiment) -> Cluster:
    storage = args.home / "trials"
    if args.local:
        return InProcess(storage)
    from rigorl.outside.ray_tune import RayTune  # noqa: PLC0415  Ray, or one process

    return RayTune(storage, spec.budget.cpus, spec.budget.gpus)


def _mirror(args: argparse.Namespace, journal: SqlJournal, spec: Experiment) -> Any:
    if args.mlflow == "none":
        return None
    from rigorl.outside.mlflow_mirror import Mirror  # noqa: PLC0415  it loads MLflow

    artifacts = None if args.mlflow else (args.home / "mlflow").absolute().as_uri()
    return Mirror(_mlflow_uri(args), artifacts, journal, spec).start()


def _mlflow_uri(args: argparse.Namespace) -> str:
    return args.mlflow or f"sqlite:///{(args.home / 'mlflow.db').absolute()}"


def _known(args: argparse.Namespace) -> SqlJournal:
    if not (args.home / "journal.db").exists():
        raise IncompleteResults(
            f"there must be a journal to read, but {args.home} has none; "
            "use `rigorl run` first, or say where it is with --home"
        )
    return at_home(args.home)


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


def _status(name: str, journal: SqlJournal) -> dict[str, dict[str, Any]]:
    states = journal.states(name)
    reports = journal.reports({state.trial.id for state in states})
    found = live.counts(journal.spec(name), states, reports)
    return {f"{arm}, {phase}": count._asdict() for (arm, phase), count in found.items()}


def _next_steps(args: argparse.Namespace) -> str:
    """Say where to look, and what to try, in the words of this very call."""
    home = "" if args.home == Path(".rigorl") else f" --home {args.home}"
    rigorl = sys.argv[0] if Path(sys.argv[0]).name == "rigorl" else "rigorl"
    return "\n".join(
        [
            "",
            "What next:",
            f"  {rigorl} ui{home}    every run, metric and figure, at http://127.0.0.1:5000"
            if args.mlflow != "none"
            else f"  {rigorl} status{home}    how far every study is",
            f"  {rigorl} report {args.spec}{home} --html report.html    verdict and curves",
            f"  {rigorl} run {args.spec}{home}    again: it plays nothing twice",
        ]
    )


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Stopped`."""

    def stop(number: int, _: Any) -> NoReturn:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    "status": status,
    "report": show,
    "agents": agents,
    "ui": ui,
    "doctor": examine_machine,
}
