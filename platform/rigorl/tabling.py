"""What the front door does with tables: have them played, and tell searches on them."""

import argparse
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from rigorl import experiment, opening, report
from rigorl.errors import SpecError
from rigorl.outside import live, optuna_ask, yaml_file
from rigorl.outside.journal import Lines
from rigorl.replaying import Replay, Replays, replay
from rigorl.searches import PER_EXAM
from rigorl.spec import Experiment
from rigorl.tables import Lookup, Table, as_search

BLIND = ("random", "qmc", "grid")
"""Samplers that ask nobody what earlier candidates were worth."""


def tabulate(args: argparse.Namespace) -> Generator[str, None, int]:
    """Play every candidate on every tuning seed, write the tables, and say where they are."""
    spec = yaml_file.read(args.spec, args.set)
    opening.check(spec, args.spec)
    _check(spec)
    with closing(opening.journal(args)) as journal:
        journal.begin(spec, experiment.codes(spec), accept=args.accept_code)
        with (
            Lines(journal.database, spec.name) as lines,
            live.Progress(spec, journal, lines),
            args.stop.gently(),
        ):
            cluster = opening.cluster(args, spec)
            found = experiment.tables(spec, cluster, journal, optuna_ask.ask)
        journal.end("done")
    written = {arm: _write(args.out or args.home, table) for arm, table in found.items()}
    if args.json:
        yield report.as_json({arm: str(path) for arm, path in written.items()})
    else:
        yield "\n".join(f"{written[arm]}: {_size(table)}" for arm, table in found.items())
    return 0


def _check(spec: Experiment) -> None:
    """Refuse searches that would leave holes in a table, or have it lean to one side."""
    searching = {n: arm.search for n, arm in spec.arms.items() if arm.search and not arm.after}
    if not searching:
        raise SpecError("a table must have an arm that searches, but none does; add a `search:`")
    for name, how in searching.items():
        if how.prune:
            raise SpecError(
                f"a table must have every candidate to its end, but arm {name!r} prunes; drop it",
                f"$.arms.{name}.search.prune",
            )
        if len(how.maximise) > 1 or how.maximise[0] not in PER_EXAM:
            raise SpecError(
                "a table must hold one number that each exam of each seed tells, but arm "
                f"{name!r} maximises {', '.join(how.maximise)}; choose one of "
                f"{', '.join(PER_EXAM)}",
                f"$.arms.{name}.search.maximise",
            )
        if how.sampler not in BLIND:
            raise SpecError(
                f"a table must not lean to where candidates were good, but {how.sampler} does; "
                f"choose one of {', '.join(BLIND)}",
                f"$.arms.{name}.search.sampler",
            )


def _size(table: Table) -> str:
    failed = sum(not curves for curves in table.values)
    return (
        f"{len(table.configs)} configurations x {len(table.seeds)} seeds x {len(table.steps)} "
        f"rungs{f', {failed} configurations failed' if failed else ''}"
    )


def _write(folder: Path, table: Table) -> Path:
    path = folder / f"{table.study}-{table.arm}.table.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(table) + b"\n")
    except OSError as error:
        raise SpecError(
            f"a table must have a folder to be written to, but {path}: {error.strerror}; choose "
            "another with --out"
        ) from error
    return path


def tell(args: argparse.Namespace) -> Generator[str, None, int]:
    """Tell searches on tables again and again, and say what came of them."""
    what = read(args.spec, args.set)
    tables = {name: _read(args.spec.parent / file) for name, file in what.tables.items()}
    for name, how in what.searches.items():
        try:
            as_search(tables[how.table], how, name)
        except ValueError as error:
            raise SpecError(f"{args.spec}: {error}", f"$.searches.{name}") from error
    found = replay(what, tables, optuna_ask.ask)
    yield report.as_json(found) if args.json else page(found)
    return 0


def read(path: Path, changes: Sequence[str] = ()) -> Replay:
    """Return the searches in the file at *path*; their tables need not be there."""
    known = frozenset(Replay.__struct_fields__ + Lookup.__struct_fields__)
    found: Replay = yaml_file.read_as(path, Replay, changes, known)
    return found


def _read(path: Path) -> Table:
    try:
        return msgspec.json.decode(yaml_file.text(path), type=Table)
    except msgspec.DecodeError as error:
        raise SpecError(
            f"{path}: a table must be what `rigorl table` wrote, but {error}; make it again"
        ) from error


def page(found: Replays) -> str:
    """Return what searches came to, for a person."""
    rows = [
        [
            name,
            f"{one.runs:.1f}",
            report.estimate(one.tuned),
            report.estimate(one.test),
            report.estimate(one.gap),
            report.estimate(one.luck) if one.luck.seeds else "-",
            report.number(one.model.tuned - one.model.test) if one.model else "-",
        ]
        for name, one in found.searches.items()
    ]
    head = ["search", "whole trials", "best on tuning seeds", "on other seeds", "gap"]
    table = report.table([*head, "as its own scores have it", "as the model has it"], rows)
    apart = [[pair, report.estimate(by)] for pair, by in found.differences.items()]
    empty = [
        f"- {name} found no winner {one.empty} times of {found.repeats}"
        for name, one in found.searches.items()
        if one.empty
    ]
    parts = [f"# {found.name}", f"> {found.question}", table]
    if apart:
        parts.append(report.table(["on other seeds", "difference"], apart))
    care = f"- means over {found.repeats} times, with 95 % intervals over " + (
        f"{found.resamples} tables that were drawn again from these, configuration by configuration"
        if found.resamples
        else "these times: they hold for these tables, and other ones may differ by more"
    )
    parts.append("\n".join([*empty, care]))
    return "\n\n".join(parts) + "\n"


VERBS = {"table": tabulate, "replay": tell}
