"""Is everything there? What a bug report should say, and what a new machine lacks."""

import importlib.metadata
import os
import platform
import shutil
import socket
from pathlib import Path
from typing import NamedTuple

import psutil
from mlflow import MlflowClient

from rigorl.errors import RigorlError
from rigorl.hiding import shown
from rigorl.outside.journal import SqlJournal
from rigorl.outside.mlflow_runs import AWAY
from rigorl.outside.on_ray import cluster

PACKAGES = ("rigorl", "ray", "torch", "optuna", "mlflow", "gymnasium", "mujoco", "numpy")
LOW_DISK, LOW_MEMORY = 5e9, 1e9


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    fact: str
    ok: bool


def findings(home: Path, journal: str, mlflow: str, port: int) -> list[Finding]:
    """Look at this machine, and at what a run in *home* would need. Leaves nothing behind."""
    return [
        *_versions(),
        _machine(),
        _disk(home),
        _ray(),
        _port(port),
        _journal(home, journal),
        _mlflow(mlflow),
    ]


def _versions() -> list[Finding]:
    found = [Finding("python", platform.python_version(), ok=True)]
    for name in PACKAGES:
        try:
            found.append(Finding(name, importlib.metadata.version(name), ok=True))
        except importlib.metadata.PackageNotFoundError:
            found.append(Finding(name, "is not installed; run `make setup`", ok=False))
    return found


def _machine() -> Finding:
    free = psutil.virtual_memory().available
    fact = f"{os.cpu_count()} cores, {free / 1e9:.1f} GB of memory free, {platform.platform()}"
    return Finding("machine", fact, ok=free > LOW_MEMORY)


def _disk(home: Path) -> Finding:
    place = next(
        folder for folder in [home.absolute(), *home.absolute().parents] if folder.exists()
    )
    free = shutil.disk_usage(place).free
    writable = os.access(place, os.W_OK)
    fact = f"{free / 1e9:.1f} GB free at {place}" + ("" if writable else ", but not writable")
    return Finding("disk", fact, ok=free > LOW_DISK and writable)


def _ray() -> Finding:
    try:
        resources = cluster.resources()
    except (RigorlError, OSError, RuntimeError) as error:
        return Finding("ray sees", f"does not start: {error}", ok=False)
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    return Finding("ray sees", f"{cpus:g} CPUs, {gpus:g} GPUs", ok=cpus >= 1)


def _port(port: int) -> Finding:
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    fact = f"{port} is taken; use `rigorl ui --port`" if taken else f"{port} is free"
    return Finding("port of the UI", fact, ok=not taken)


def _journal(home: Path, url: str) -> Finding:
    path = home.absolute() / "journal.db"
    if not url and not path.exists():
        return Finding("journal", f"none yet at {path}; the first run makes it", ok=True)
    try:
        journal = SqlJournal(url or f"sqlite:///{path}")
        states = [journal.state(name) for name in journal.names()]
        journal.close()
    except RigorlError as error:
        return Finding("journal", str(error), ok=False)
    running, died = states.count("running"), states.count("died")
    fact = f"{journal.name}, {len(states)} studies, {running} running, {died} whose driver died"
    return Finding("journal", fact, ok=True)


def _mlflow(uri: str) -> Finding:
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return Finding("mlflow store", f"none yet at {uri}; the first run makes it", ok=True)
    try:
        found = MlflowClient(tracking_uri=uri).search_experiments(max_results=1_000)
    except AWAY as error:
        return Finding("mlflow store", shown(f"{uri} does not answer: {error}"), ok=False)
    return Finding("mlflow store", f"{shown(uri)}, {len(found)} experiments", ok=True)
