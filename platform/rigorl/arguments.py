"""The words of the command line."""

import argparse
import os
from pathlib import Path
from typing import Any


def parser() -> argparse.ArgumentParser:
    front = argparse.ArgumentParser(
        prog="rigorl", description="Reinforcement-learning experiments that survive a referee."
    )
    verbs = front.add_subparsers(required=True, metavar="VERB")
    verb = _verb(verbs, "check", "is every spec valid? plays nothing")
    verb.add_argument("specs", nargs="+", type=Path, metavar="SPEC")
    _settable(verb)
    verb = _verb(verbs, "plan", "what will it cost? trials, steps, exams, disk, time")
    _spec(verb)
    _json(verb)
    verb.add_argument(
        "--cluster",
        action="store_true",
        help="and what fits on the cluster at RAY_ADDRESS, now and when all of it is free?",
    )
    _run(_verb(verbs, "run", "tune, examine, judge; again, it does only what is left"))
    _run(_verb(verbs, "resume", "run, and say first what is kept, continued and redone"))
    verb = _verb(verbs, "table", "play every candidate to its end, for searches to be told on it")
    _run(verb)
    verb.add_argument("-o", "--out", type=Path, metavar="DIR", help="of the tables (home)")
    verb = _verb(verbs, "replay", "tell searches on tables, hundreds of times; plays nothing")
    _spec(verb)
    _json(verb)
    verb = _verb(verbs, "status", "how far is it?")
    verb.add_argument("spec", nargs="?", type=Path, metavar="SPEC")
    _settable(verb)
    verb.add_argument("--why", action="store_true", help="and why do trials wait or fail?")
    _homely(verb)
    _addressed(verb)
    _json(verb)
    _report(_verb(verbs, "report", "the verdict, as far as it can be given"))
    _filmed(_verb(verbs, "film", "an exam episode of each arm's final policy, as a moving picture"))
    verb = _verb(verbs, "export", "a study as text, to carry it elsewhere or to compare it")
    verb.add_argument("study", metavar="STUDY", help="its name, or its YAML file")
    verb.add_argument("-o", "--out", type=Path, metavar="FILE", help="instead of stdout")
    _homely(verb)
    verb = _verb(verbs, "import", "take in what `export` wrote")
    verb.add_argument("file", type=Path, metavar="FILE")
    _homely(verb)
    verb = _verb(verbs, "agents", "which algorithms are there, with which settings?")
    verb.add_argument("name", nargs="?", metavar="NAME")
    _json(verb)
    verb = _verb(verbs, "ui", "MLflow's pages, on this machine only")
    _homely(verb)
    _ported(verb)
    verb = _verb(verbs, "doctor", "is everything there that a run needs?")
    _homely(verb)
    _ported(verb)
    _json(verb)
    _clustered(verbs)
    verb = _verb(verbs, "selftest", "kill a small study again and again: is anything lost?")
    _json(verb)
    return front


def _verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    verb.set_defaults(verb=name)
    return verb


def _report(verb: argparse.ArgumentParser) -> None:
    _spec(verb)
    _homely(verb)
    _json(verb)
    verb.add_argument("--html", type=Path, metavar="FILE", help="write a page with figures")
    verb.add_argument("--checklist", action="store_true", help="what a referee asks, answered")
    verb.add_argument("--ledger", action="store_true", help="what each arm has spent")


def _filmed(verb: argparse.ArgumentParser) -> None:
    _spec(verb)
    _homely(verb)
    _stored(verb)
    _json(verb)
    verb.add_argument("--arm", metavar="NAME", help="of the spec (each, one film)")
    verb.add_argument("--seed", type=int, help="of seeds.test (the first)")
    verb.add_argument(
        "--policy",
        metavar="NAME",
        help="of those that were examined (the first; of attackers one that may do its worst)",
    )
    verb.add_argument("--task", metavar="NAME", help="of the spec (the last)")
    verb.add_argument("--episode", type=int, default=0, metavar="K", help="of the exam, from 0 (0)")
    verb.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        metavar="N",
        help="of the episode that are shown at most; it is played to its end (20)",
    )
    verb.add_argument("-o", "--out", type=Path, metavar="F.gif", help="of one film (in home)")


def _stored(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--storage",
        default=os.environ.get("RIGORL_STORAGE", ""),
        metavar="URL",
        help="what trials keep, for every node to see: a folder, or s3://bucket/prefix "
        "(default: RIGORL_STORAGE or in home)",
    )


def _run(verb: argparse.ArgumentParser) -> None:
    _spec(verb)
    _homely(verb)
    _json(verb)
    _stored(verb)
    verb.add_argument("--local", action="store_true", help="in this process, without Ray")
    verb.add_argument(
        "--accept-code",
        action="store_true",
        help="keep the trials that other code made",
    )
    verb.add_argument(
        "--fork",
        action="store_true",
        help="if this is no longer the study of its name, run it as name-2, name-3...",
    )


def _clustered(verbs: Any) -> None:
    """Add what is asked of a study that another machine plays."""
    verb = _verb(verbs, "submit", "let a Ray cluster play it; again: attach, or go on")
    _spec(verb)
    _addressed(verb, required=True)
    verb.add_argument("--wait", action="store_true", help="follow it to its end")
    _distant(verb)
    verb.add_argument("--accept-code", action="store_true", help="as `run` has it")
    verb.add_argument(
        "--env",
        choices=("image", "lock"),
        default="image",
        help="image: the cluster has rigorl (default); lock: install there what is here",
    )
    verb.add_argument("--image", default="", metavar="URI", help="a container that Ray starts")
    verb.add_argument("--code", action="store_true", help="ship this rigorl's own source")
    verb.add_argument(
        "--with",
        dest="shipped",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help="ship a module or package of yours too; may be repeated",
    )
    verb.add_argument(
        "--keep-on-head",
        action="store_true",
        help="keep the study on the head's own disk: for a cluster that is this machine",
    )
    verb = _verb(verbs, "logs", "what its driver says, from the journal or from the cluster")
    _spec(verb)
    _homely(verb)
    _addressed(verb)
    verb.add_argument("-f", "--follow", action="store_true", help="until the study ends")
    verb = _verb(verbs, "stop", "let its driver end at the next checkpoint")
    _spec(verb)
    _homely(verb)
    _addressed(verb)
    verb.add_argument("--no-wait", action="store_true", help="do not wait for the end")


def _addressed(verb: argparse.ArgumentParser, *, required: bool = False) -> None:
    verb.add_argument(
        "--address",
        required=required,
        default="",
        metavar="URL",
        help="a Ray cluster's dashboard, as http://head:8265",
    )


def _distant(verb: argparse.ArgumentParser) -> None:
    """Add where it is kept; what is not given is as the cluster's nodes have it."""
    for word, metavar, variable in (
        ("home", "DIR", "RIGORL_HOME"),
        ("journal", "URL", "RIGORL_JOURNAL"),
        ("storage", "URL", "RIGORL_STORAGE"),
        ("mlflow", "URI", "MLFLOW_TRACKING_URI"),
    ):
        verb.add_argument(
            f"--{word}",
            default=os.environ.get(variable, ""),
            metavar=metavar,
            help=f"as `run` has it, seen from the cluster (default: {variable}, here or there)",
        )


def _spec(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("spec", type=Path, metavar="SPEC", help="a YAML file")
    _settable(verb)


def _settable(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="change one value of the spec, as budget.steps=1000; may be repeated",
    )


def _homely(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--home",
        type=Path,
        default=Path(os.environ.get("RIGORL_HOME", ".rigorl")),
        metavar="DIR",
        help="journal, policies and MLflow's store (default: RIGORL_HOME or .rigorl)",
    )
    verb.add_argument(
        "--journal",
        default=os.environ.get("RIGORL_JOURNAL", ""),
        metavar="URL",
        help="a database, as postgresql://user@host/name (default: RIGORL_JOURNAL or in home)",
    )
    verb.add_argument(
        "--mlflow",
        default=os.environ.get("MLFLOW_TRACKING_URI", ""),
        metavar="URI",
        help="an MLflow server or store, or none (default: MLFLOW_TRACKING_URI or in home)",
    )


def _ported(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--port", type=int, default=5000, help="of MLflow's pages")


def _json(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="for machines")
