"""What drivers said, followed from the journal: all of it, once, and no longer than needed."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rigorl import following
from rigorl.outside.journal import SqlJournal
from rigorl.outside.journal.lines import Lines
from rigorl.spec import Experiment


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlJournal]:
    monkeypatch.setattr(following, "LOOK_S", 0.01)
    monkeypatch.setattr(following, "LINGER_S", 0.05)
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
    told = list(following.words(journal, "tiny", follow=True, patience=5.0))
    driver.join()
    assert told == ["one", "two", "three"]
    assert "'tiny': stopped; waiting 5 s for a next driver" in caplog.text


def test_who_does_not_follow_does_not_wait(journal: SqlJournal, spec: Experiment) -> None:
    journal.begin(spec)
    say(journal, "one")
    journal.end("stopped")
    start = time.monotonic()
    assert list(following.words(journal, "tiny", follow=False, patience=5.0)) == ["one"]
    assert list(following.words(journal, "tiny", follow=True)) == ["one"]
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
    assert list(following.words(journal, "tiny", follow=True, seen=seen)) == left


def test_what_is_said_again_later_is_told_again(journal: SqlJournal, spec: Experiment) -> None:
    journal.begin(spec)
    say(journal, "0/2", "1/2")
    words = following.words(journal, "tiny", follow=True, seen=["0/2"])
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
    assert list(following.words(journal, "tiny", follow=True)) == ["its last words"]
    driver.join()
    assert caplog.text.count("'tiny' is not known here; waiting for it") == 1
