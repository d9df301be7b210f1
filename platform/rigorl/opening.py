"""What the words of the command line open: the journal, the cluster, the mirror, a fork."""

import argparse
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from rigorl import experiment, playable
from rigorl.checkpoint import Store
from rigorl.errors import IncompleteResults, SpecError
from rigorl.experiment import Cluster
from rigorl.fitting import Node
from rigorl.outside import bucket, yaml_file
from rigorl.outside.in_process import InProcess
from rigorl.outside.journal import SqlJournal, at_home
from rigorl.spec import Experiment


def check(spec: Experiment, file: Path) -> list[str]:
    """Refuse what cannot be played, with the name of its *file*; return remarks."""
    try:
        return playable.check(spec)
    except SpecError as error:
        raise SpecError(f"{file}: {error.message}", error.at) from error


def journal(args: argparse.Namespace) -> SqlJournal:
    """Open the journal, or begin one."""
    return SqlJournal(args.journal) if args.journal else at_home(args.home)


def known_journal(args: argparse.Namespace) -> SqlJournal:
    """Open a journal that must be there already."""
    named = args.journal.removeprefix("sqlite:///")
    file = Path(named) if args.journal else args.home / "journal.db"
    if "://" not in named and "?" not in named and not file.exists():  # and none is begun
        raise IncompleteResults(
            f"there must be a journal to read, but {args.journal or args.home} has none; "
            "use `rigorl run` first, or say where it is with --home or --journal"
        )
    return journal(args)


def store(args: argparse.Namespace) -> Store:
    """Open what trials keep; nothing is asked of it yet."""
    return bucket.opened(_storage(args))


def _storage(args: argparse.Namespace) -> str:
    return args.storage or str(args.home / "trials")


def cluster(args: argparse.Namespace, spec: Experiment) -> Cluster:
    storage = _storage(args)
    if args.local:
        return InProcess(storage, args.stop)
    from rigorl.outside.on_ray.cluster import RayCluster  # noqa: PLC0415  Ray, or one process

    strategy, crew = spec.placement.strategy, spec.placement.crew.size
    return RayCluster(storage, spec.needs, strategy, spec.exam, crew, args.stop)


def nodes() -> list[Node]:
    """Return the nodes of the cluster at RAY_ADDRESS, and what is free on them."""
    from rigorl.outside.on_ray.nodes import joined, nodes  # noqa: PLC0415  it loads Ray

    with joined():
        return nodes()


def mirror(args: argparse.Namespace, kept: SqlJournal, spec: Experiment) -> Any:
    """Start to show in MLflow what *kept* holds; None if it is not wanted."""
    if args.mlflow == "none":
        return None
    from rigorl.outside.mlflow_mirror import Mirror  # noqa: PLC0415  it loads MLflow

    artifacts = None if args.mlflow else (args.home / "mlflow").absolute().as_uri()
    return Mirror(mlflow_uri(args), artifacts, kept, spec).start()


def shown_in_mlflow(
    args: argparse.Namespace, kept: SqlJournal, files: Mapping[str, Sequence[Path]], folder: str
) -> list[str]:
    """Keep *files* with the runs of their trials, in *folder* there; say what that kept."""
    if args.mlflow == "none":
        return []
    from rigorl.outside.mlflow_runs import attach  # noqa: PLC0415  it loads MLflow

    return attach(mlflow_uri(args), kept, files, folder)


def mlflow_uri(args: argparse.Namespace) -> str:
    return args.mlflow or f"sqlite:///{(args.home / 'mlflow.db').absolute()}"


def fork(spec: Experiment, kept: SqlJournal) -> Experiment:
    """Return *spec* under the first of name, name-2, name-3... whose study it continues."""
    codes = experiment.codes(spec)
    names = (spec.name if n == 1 else f"{spec.name}-{n}" for n in count(1))
    forks = (msgspec.structs.replace(spec, name=name) for name in names)
    return next(fork for fork in forks if kept.objection(fork, codes) is None)


def study(args: argparse.Namespace, kept: SqlJournal) -> str:
    """Return the name of the study that is meant: by its name, or by its file."""
    if args.study in kept.names():
        return str(args.study)
    try:
        return yaml_file.read(Path(args.study)).name
    except SpecError as error:
        known = ", ".join(kept.names()) or "none"
        raise SpecError(
            f"a study must be a name the journal knows, or a spec, but is {args.study!r}; "
            f"known are: {known}"
        ) from error
