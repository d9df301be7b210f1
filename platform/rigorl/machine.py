"""What the front door does on this machine alone: MLflow's pages, films, a check-up, deaths."""

import argparse
import logging
import os
import sys
from collections.abc import Generator

from rigorl import accounts, filming, opening, report
from rigorl.outside.selftest import selftest

DONE, FAILED = 0, 1
log = logging.getLogger("rigorl")


def ui(args: argparse.Namespace) -> Generator[str, None, int]:
    """Become MLflow's server, on this machine only."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(args.port)]
    quiet = {
        "MLFLOW_BACKEND_STORE_URI": opening.mlflow_uri(args),  # `ps` would tell its password
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    log.warning("http://127.0.0.1:%d (Ctrl-C ends it)", args.port)
    os.execvpe(command[0], command, os.environ | quiet)  # noqa: S606
    yield ""


def doctor(args: argparse.Namespace) -> Generator[str, None, int]:
    """Say what is there and what is missing."""
    from rigorl.outside import doctor  # noqa: PLC0415  it loads Ray and MLflow

    found = doctor.findings(args.home, args.journal, opening.mlflow_uri(args), args.port)
    lines = [f"{'ok  ' if f.ok else 'FAIL'}  {f.what}: {f.fact}" for f in found]
    yield report.as_json([f._asdict() for f in found]) if args.json else "\n".join(lines)
    return DONE if all(f.ok for f in found) else FAILED


def die_and_go_on(args: argparse.Namespace) -> Generator[str, None, int]:
    """Kill a small study at each named point, go on, compare, and say how it went."""
    results = []
    for result in selftest():
        results.append(result)
        case, end = result.case, "ok" if result.ok else "FAILED"
        log.warning("%s (%s killed %d times): %s", case.point, case.victim, result.faults, end)
    found = [{**result._asdict(), "victim": result.case.victim} for result in results]
    yield report.as_json(found) if args.json else accounts.crashes(results)
    return DONE if all(result.ok for result in results) else FAILED


VERBS = {**filming.VERBS, "ui": ui, "doctor": doctor, "selftest": die_and_go_on}
