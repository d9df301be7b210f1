"""What the front door tells: commands that can be typed."""

import argparse
import shlex
from pathlib import Path

import pytest

from rigorl import arguments, opening, telling
from rigorl.errors import IncompleteResults
from rigorl.spec import Experiment


def commands(text: str) -> list[argparse.Namespace]:
    """Return what rigorl understands when the commands of *text* are typed."""
    typed = [line.split("    ")[0] for line in text.splitlines() if line.startswith("  ")]
    return [arguments.parser().parse_args(shlex.split(line)[1:]) for line in typed]


def test_the_next_commands_can_be_typed_and_mean_this_study(
    spec: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RIGORL_HOME", "RIGORL_JOURNAL", "RIGORL_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    changes = ["--set", "question=Is it 'so'; $HOME?", "--set", "name=other"]
    where = ["--home", "a home", "--journal", "postgresql://me@host/db", "--mlflow", "none"]
    run = arguments.parser().parse_args(["run", "my spec.yaml", *changes, *where])
    for told in commands(telling.next_steps(run, spec)):
        assert (told.journal, told.home) == (run.journal, run.home)
        if told.verb != "status":
            assert (told.spec, told.set) == (run.spec, run.set)

    words = ["submit", "my spec.yaml", *changes, "--address", "http://head:8265"]
    sent = arguments.parser().parse_args([*words, "--journal", "postgresql://me@host/db"])
    sent.home = Path(".rigorl")
    distant = commands(telling.distant_steps(sent))
    assert [told.verb for told in distant] == ["logs", "status", "status", "stop", "report"]
    for told in distant:
        assert (told.spec, told.set) == (sent.spec, sent.set)
        assert told.journal or told.address
    assert distant[-1].journal == sent.journal


def test_the_next_commands_tell_no_password(
    spec: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIGORL_JOURNAL", "postgresql://me:hunter2@host/db")
    run = arguments.parser().parse_args(["run", "x.yaml"])
    assert "journal" not in telling.next_steps(run, spec)
    run.journal = "postgresql://me:hunter2@other/db"
    run.address = "https://me:hunter2@head"
    said = telling.next_steps(run, spec) + telling.distant_steps(run)
    assert "hunter2" not in said
    assert "://...@other/db" in said


def test_who_only_looks_begins_no_journal(tmp_path: Path) -> None:
    args = arguments.parser().parse_args(["status", "--journal", f"sqlite:///{tmp_path}/none.db"])
    with pytest.raises(IncompleteResults, match=r"there must be a journal to read, but sqlite:"):
        opening.known_journal(args)
    assert not list(tmp_path.iterdir())
