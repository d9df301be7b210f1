"""The front door: the only file that prints, and the only one that wires the house.

stdout is for results, stderr for progress. Exit codes: 0 done, 1 a trial failed for good,
2 the request is wrong, 130 and 143 stopped by a signal.
"""

import argparse
import logging
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TextIO

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one trial, one core; read when torch loads

from rigorl import (
    accounts,
    arguments,
    contract,
    crash,
    estimate,
    experiment,
    ledger,
    machine,
    opening,
    playable,
    pricing,
    report,
    tabling,
    telling,
)
from rigorl.analysis.scale import ends
from rigorl.analysis.verdict import Verdict
from rigorl.errors import RigorlError, SpecError, Stopped
from rigorl.outside import live, optuna_ask, yaml_file
from rigorl.outside.in_process import Alone
from rigorl.outside.journal import Lines, SqlJournal, export_study, import_study, read_study
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
            if yaml_file.has(path, "searches"):
                tabling.read(path, args.set)
                remarks = []
            else:
                remarks = playable.check(yaml_file.read(path, args.set))
        except SpecError as error:
            wrong += 1
            _say(f"rigorl: {error}" if str(path) in str(error) else f"rigorl: {path}: {error}")
        else:
            _print("; ".join([f"{path}: ok", *remarks]))
    return WRONG if wrong else DONE


def run(args: argparse.Namespace) -> int:
    """Tune, examine and judge; run again, do only what is left."""
    spec, store = _checked(args), opening.store(args)
    with closing(opening.journal(args)) as journal:
        if args.fork:
            spec = _fork(spec, journal)
        if args.verb == "resume":
            _say(telling.resumed(spec, journal, store))
        with Lines(journal.database, spec.name) as lines:
            verdict = _play(args, spec, journal, lines)
            crash.point("verdict")
            page = report.as_json(verdict) if args.json else report.markdown(verdict)
            lines.add(page)
        _print(page)
    if not os.environ.get("RIGORL_SUBMITTED"):
        _say(telling.next_steps(args, spec))
    return FAILED if _failed(verdict) else DONE


def _failed(verdict: Verdict) -> bool:
    """Say whether a trial failed for good, or a search to its end found nothing."""
    unanswered = any(arm.config is None for arm in verdict.arms.values())
    return unanswered or bool(report.failures(verdict))


def _play(args: argparse.Namespace, spec: Experiment, journal: SqlJournal, lines: Lines) -> Verdict:
    """Return the verdict; say what keeps MLflow from showing everything, if anything does."""
    mirror = None
    status = "KILLED"
    shown: dict[str, str] = {}
    scales = None
    try:
        journal.begin(spec, experiment.codes(spec), accept=args.accept_code)
        with live.Progress(spec, journal, lines), args.stop.gently():
            mirror = opening.mirror(args, journal, spec)
            cluster = opening.cluster(args, spec)
            verdict = experiment.run(spec, cluster, journal, optuna_ask.ask)
        verdict = telling.weighed(spec, verdict, journal)
        status = "FAILED" if _failed(verdict) else "FINISHED"
        shown, scales = telling.pages(spec, verdict, journal), ends(verdict.scales)
    finally:
        if mirror:
            mirror.finish(status, shown, scales)
            if mirror.trouble:
                _say(f"rigorl: MLflow is behind ({mirror.trouble}); the next run catches up")
    journal.end("failed" if status == "FAILED" else "done")  # the mirror too writes as its driver
    return verdict


def show(args: argparse.Namespace) -> int:
    """Print the verdict as far as it can be given."""
    spec = yaml_file.read(args.spec, args.set)
    with closing(opening.known_journal(args)) as journal:
        verdict = telling.weighed(spec, experiment.verdict(spec, journal), journal)
        if args.html:
            _write(args.html, telling.page(spec, verdict, journal))
        if args.ledger:
            entries = ledger.ledger(spec, journal.states(spec.name))
            rows = [entry._asdict() for entry in entries]
            _print(report.as_json(rows) if args.json else ledger.page(entries))
            return DONE
        if args.checklist:
            items = telling.checked(spec, verdict, journal)
            _print(report.as_json(items) if args.json else report.checklist(items))
            return DONE
    _print(report.as_json(verdict) if args.json else report.markdown(verdict))
    return FAILED if report.failures(verdict) else DONE


def status(args: argparse.Namespace) -> int:
    """Print how far studies are."""
    if args.address:
        return at_a_cluster(args)
    with closing(opening.known_journal(args)) as journal:
        known = journal.names()
        wanted = [yaml_file.read(args.spec, args.set).name] if args.spec else known
        found = {name: telling.status(name, journal) for name in wanted if name in known}
        whys = {name: telling.whys(args, name, journal) for name in found} if args.why else {}
    if args.json:
        told = {name: found[name] | ({"why": whys[name]} if whys else {}) for name in found}
        _print(report.as_json(told))
    else:
        _print(accounts.status(found) + (f"\n{accounts.whys(whys)}" if whys else ""))
    return DONE


def carry_out(args: argparse.Namespace) -> int:
    """Print a study as text."""
    with closing(opening.known_journal(args)) as journal:
        text = "".join(f"{line}\n" for line in export_study(journal, opening.study(args, journal)))
    if args.out:
        _write(args.out, text)
    else:
        _print(text, end="")
    return DONE


def carry_in(args: argparse.Namespace) -> int:
    """Take in what `export` wrote."""
    found = read_study(yaml_file.text(args.file).splitlines())
    with closing(opening.journal(args)) as journal:
        _print(f"{import_study(journal, found)}: imported")
    return DONE


def at_a_cluster(args: argparse.Namespace) -> int:
    """Do what *args* ask of a study that another machine plays, and print what is said."""
    from rigorl import remote  # noqa: PLC0415  it loads Ray

    return _print_all(remote.VERBS[args.verb](args))


def on_tables(args: argparse.Namespace) -> int:
    """Print where tables are, or what searches come to on them."""
    return _print_all(tabling.VERBS[args.verb](args))


def here(args: argparse.Namespace) -> int:
    """Print what is asked of this machine."""
    return _print_all(machine.VERBS[args.verb](args))


def _print_all(talk: Generator[str, None, int]) -> int:
    """Print what is said, and return how it ends."""
    while True:
        try:
            _print(next(talk))
        except StopIteration as end:
            return int(end.value)


def cost(args: argparse.Namespace) -> int:
    """Print what a study will cost, before anything starts."""
    spec = _checked(args)
    fits = telling.fits(spec, opening.nodes()) if args.cluster else None
    found = estimate.costs(spec, Alone())
    wall = estimate.wall_s(found, spec, fits["at_once"] if fits else None)
    priced = {"arms": [cost._asdict() for cost in found], "wall_s": wall}
    if args.json:
        _print(report.as_json(priced | ({"cluster": fits} if fits else {})))
    else:
        _print(pricing.costs(found, wall, fits))
    return FAILED if fits and fits["never"] else DONE


def agents(args: argparse.Namespace) -> int:
    """Print the algorithms of the house and their settings."""
    names = [args.name] if args.name else contract.house_agents()
    found = {name: contract.settings(name) for name in names}
    pages = [accounts.settings(name, about) for name, about in found.items()]
    _print(report.as_json(found) if args.json else "\n\n".join(pages))
    return DONE


def _checked(args: argparse.Namespace) -> Experiment:
    """Read the spec and refuse what cannot be played, before anything is created."""
    spec = yaml_file.read(args.spec, args.set)
    for remark in opening.check(spec, args.spec):
        _say(f"rigorl: {remark}")
    return spec


def _fork(spec: Experiment, journal: SqlJournal) -> Experiment:
    fork = opening.fork(spec, journal)
    if fork.name != spec.name:
        _say(f"rigorl: this runs as {fork.name!r}; `--set name={fork.name}` finds it again")
    return fork


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise SpecError(
            f"--html must be a file one can write, but {path}: {error.strerror}; choose another"
        ) from error


def _say(text: str) -> None:
    _print(text, sys.stderr)


def _print(text: str, to: TextIO | None = None, end: str = "\n") -> None:
    """Print; if the reader has gone, what is left is said to nobody, and all goes on."""
    stream = to or sys.stdout
    try:
        print(text, file=stream, end=end, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


VERBS = {
    "check": check,
    "plan": cost,
    "run": run,
    "resume": run,
    "table": on_tables,
    "replay": on_tables,
    "submit": at_a_cluster,
    "status": status,
    "logs": at_a_cluster,
    "stop": at_a_cluster,
    "report": show,
    "export": carry_out,
    "import": carry_in,
    "agents": agents,
    "film": here,
    "ui": here,
    "doctor": here,
    "selftest": here,
}
