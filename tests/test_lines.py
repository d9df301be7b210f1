"""What drivers say is kept, in its order, and never stops them."""

import logging
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rigorl.errors import JournalError, Stopped
from rigorl.outside.journal import SqlJournal, ask_to_stop, lease, lines
from rigorl.outside.journal.lines import Lines, said
from rigorl.outside.signals import Stop
from rigorl.spec import Experiment


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqlJournal]:
    opened = SqlJournal(f"sqlite:///{tmp_path}/journal.db")
    yield opened
    opened.close()


def texts(journal: SqlJournal, study: str = "tiny") -> list[str]:
    return [text for _, text in said(journal.database, study)]


def test_words_progress_and_page_are_kept_in_their_order(journal: SqlJournal) -> None:
    with Lines(journal.database, "tiny") as kept:
        kept.add("plain 1/2")
        logging.getLogger("rigorl.journal").warning("the journal says %s", "hm")
        kept.add("# page\nof two lines")
    assert texts(journal) == ["plain 1/2", "rigorl: the journal says hm", "# page\nof two lines"]
    assert kept not in logging.getLogger("rigorl").handlers
    assert texts(journal, "other") == []


def test_they_are_kept_while_the_run_goes_on(
    journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "EVERY", 0.01)
    with Lines(journal.database, "tiny") as kept:
        kept.add("now")
        deadline = time.monotonic() + 5
        while not texts(journal) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert texts(journal) == ["now"]


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (Stopped(15), "rigorl: stopped; the same command goes on from here"),
        (JournalError("a study must"), "rigorl: a study must"),
        (ZeroDivisionError("a bug"), "rigorl: ZeroDivisionError: a bug"),
    ],
)
def test_how_it_ended_is_kept(journal: SqlJournal, error: BaseException, last: str) -> None:
    with pytest.raises(type(error)), Lines(journal.database, "tiny"):
        raise error
    assert texts(journal) == [last]


def test_a_study_keeps_its_latest_lines(
    journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "KEPT", 3)
    with Lines(journal.database, "other") as others:
        others.add("of another study")
    with Lines(journal.database, "tiny") as kept:
        for number in range(10):
            kept.add(str(number))
            kept._write(0)
    assert texts(journal) == ["7", "8", "9"]
    assert texts(journal, "other") == ["of another study"]


def test_who_reads_on_reads_only_what_is_new(journal: SqlJournal) -> None:
    with Lines(journal.database, "tiny") as kept:
        kept.add("one")
    ((place, _),) = said(journal.database, "tiny")
    with Lines(journal.database, "tiny") as kept:
        kept.add("two")
    assert [text for _, text in said(journal.database, "tiny", place)] == ["two"]


def test_a_journal_that_is_away_stops_nothing_and_is_told_when_it_is_back(
    journal: SqlJournal, tmp_path: Path
) -> None:
    """Its table is gone for a while: no write can succeed."""
    with Lines(journal.database, "tiny") as kept:
        journal.database.write(lines.lines.drop)
        for number in range(lines.WAITING + 5):
            kept.add(str(number))
        kept._write(0)
        journal.database.write(lines.lines.create)
    assert texts(journal) == [str(number) for number in range(5, lines.WAITING + 5)]


def test_a_line_whose_receipt_was_lost_is_kept_once(
    journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lines(journal.database, "tiny") as kept:
        write = journal.database.write

        def lost(*words: Any) -> None:
            write(*words)
            raise JournalError("the server went away before it answered")

        with monkeypatch.context() as patched:
            patched.setattr(journal.database, "write", lost)
            kept.add("one")
            kept._write(0)
        kept.add("two")
    assert texts(journal) == ["one", "two"]


def test_a_driver_that_is_asked_stops_once_as_at_a_signal(
    journal: SqlJournal, spec: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.02)
    with Stop().listening() as stop, stop.gently():
        journal.begin(spec)
        ask_to_stop(journal.database, "other", journal.now())
        time.sleep(0.1)
        assert not stop.asked
        ask_to_stop(journal.database, "tiny", journal.now())
        deadline = time.monotonic() + 5
        while not stop.asked and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stop.signal == signal.SIGTERM
        time.sleep(0.1)  # asked once more it would raise
        journal.end("stopped")


def test_what_an_earlier_driver_was_asked_does_not_count(
    journal: SqlJournal, spec: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.02)
    ask_to_stop(journal.database, "tiny", journal.now())
    with Stop().listening() as stop, stop.gently():
        journal.begin(msgspec.structs.replace(spec))
        time.sleep(0.1)
        assert not stop.asked
        journal.end("done")
