"""What the front door tells: words from the journal, and commands that can be typed."""

import argparse
import logging
import shlex
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rigorl import arguments, opening, telling
from rigorl.errors import IncompleteResults
from rigorl.outside.journal import SqlJournal
from rigorl.outside.journal.lines import Lines
from rigorl.spec import Experiment


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlJournal]:
    monkeypatch.setattr(telling, "LOOK_S", 0.01)
    monkeypatch.setattr(telling, "LINGER_S", 0.05)
    opened = SqlJournal(f"sqlite:///{tmp_path}/journal.db")
    yield opened
    opened.close()


def say(journal: SqlJournal, *texts: str) -> None:
    with Lines(journal.database, "tiny") as kept:
        for text in texts:
            kept.add(text)


def test_who_follows_hears_the_driver_that_was_sent_just_now(
    journal: SqlJournal, spec: Experiment, caplog: pytest.LogCaptureFixture
) -> None:
    journal.begin(spec)
    say(journal, "one")
    journal.end("stopped")

    def drive() -> None:
        time.sleep(0.3)  # it is installed, imports torch...
        journal.begin(spec)
        say(journal, "two")
        time.sleep(0.3)
        say(journal, "three")
        journal.end("done")

    logging.getLogger("rigorl").propagate = True
    driver = threading.Thread(target=drive)
    driver.start()
    told = list(telling.words(journal, "tiny", follow=True, patience=5.0))
    driver.join()
    assert told == ["one", "two", "three"]
    assert "'tiny': stopped; waiting 5 s for a next driver" in caplog.text


def test_who_does_not_follow_does_not_wait(journal: SqlJournal, spec: Experiment) -> None:
    journal.begin(spec)
    say(journal, "one")
    journal.end("stopped")
    start = time.monotonic()
    assert list(telling.words(journal, "tiny", follow=False, patience=5.0)) == ["one"]
    assert list(telling.words(journal, "tiny", follow=True)) == ["one"]
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("seen", "left"),
    [
        ([], ["# page", "1/2", "2/2", "# page\n\nthe end"]),
        (["1/2"], ["2/2", "# page\n\nthe end"]),
        (["1/2", "", "what only Ray said"], ["2/2", "# page\n\nthe end"]),
        (["2/2", "", "the end"], []),
        (["# page"], []),
    ],
)
def test_what_was_seen_is_not_told_again_and_nothing_else_is_left_out(
    journal: SqlJournal, spec: Experiment, seen: list[str], left: list[str]
) -> None:
    journal.begin(spec)
    say(journal, "# page", "1/2", "2/2", "# page\n\nthe end")
    journal.end("done")
    assert list(telling.words(journal, "tiny", follow=True, seen=seen)) == left


def test_what_is_said_again_later_is_told_again(journal: SqlJournal, spec: Experiment) -> None:
    journal.begin(spec)
    say(journal, "0/2", "1/2")
    words = telling.words(journal, "tiny", follow=True, seen=["0/2"])
    assert next(words) == "1/2"
    say(journal, "new", "0/2")
    assert [next(words), next(words)] == ["new", "0/2"]
    journal.end("done")
    assert list(words) == []


def test_a_study_that_is_not_known_is_waited_for_aloud(
    journal: SqlJournal, spec: Experiment, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("rigorl").propagate = True

    def drive() -> None:
        time.sleep(0.2)
        journal.begin(spec)
        journal.end("failed")
        say(journal, "its last words")

    driver = threading.Thread(target=drive)
    driver.start()
    assert list(telling.words(journal, "tiny", follow=True)) == ["its last words"]
    driver.join()
    assert caplog.text.count("'tiny' is not known here; waiting for it") == 1


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
    assert "--journal 'postgresql://...@other/db'" in said or "://...@other/db" in said


def test_who_only_looks_begins_no_journal(tmp_path: Path) -> None:
    args = arguments.parser().parse_args(["status", "--journal", f"sqlite:///{tmp_path}/none.db"])
    with pytest.raises(IncompleteResults, match=r"there must be a journal to read, but sqlite:"):
        opening.known_journal(args)
    assert not list(tmp_path.iterdir())
