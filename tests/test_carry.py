"""A study goes from one journal to another, whole."""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rigorl import experiment
from rigorl.errors import DivergedError, IncompleteResults, JournalError
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess
from rigorl.outside.journal import SqlJournal, export_study, import_study, read_study
from rigorl.spec import Experiment
from rigorl.trial import Report


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, searching: Experiment) -> Path:
    """Return a journal's file in which the study is done, played once for all tests."""
    path = tmp_path_factory.mktemp("played") / "there.db"
    with closing(SqlJournal(f"sqlite:///{path}")) as journal:
        journal.begin(searching, experiment.codes(searching))
        experiment.run(searching, InProcess(), journal, optuna_ask.ask)
        journal.end("done")
    return path


@pytest.fixture(scope="module")
def exported(played: Path) -> list[str]:
    with closing(SqlJournal(f"sqlite:///{played}")) as journal:
        return list(export_study(journal, "tiny"))


@pytest.fixture
def there(played: Path, tmp_path: Path) -> Iterator[SqlJournal]:
    shutil.copy(played, tmp_path)
    with closing(SqlJournal(f"sqlite:///{tmp_path}/there.db")) as journal:
        yield journal


@pytest.fixture
def here(tmp_path: Path) -> Iterator[SqlJournal]:
    with closing(SqlJournal(f"sqlite:///{tmp_path}/here.db")) as journal:
        yield journal


def test_what_is_carried_is_the_same_to_the_byte_and_goes_on(
    there: SqlJournal, here: SqlJournal, searching: Experiment
) -> None:
    lines = list(export_study(there, "tiny"))
    assert import_study(here, read_study(lines)) == "tiny"
    assert list(export_study(here, "tiny")) == lines
    import_study(here, read_study(lines))  # again: nothing doubles
    assert list(export_study(here, "tiny")) == lines
    verdict = experiment.verdict(searching, there)
    here.begin(searching, experiment.codes(searching))

    class Idle:
        def play(self, agenda: Any, record: Any) -> None:
            assert agenda.over, "all was played already"

    assert experiment.run(searching, Idle(), here, optuna_ask.ask) == verdict


def test_numbers_beyond_json_are_carried(there: SqlJournal, here: SqlJournal) -> None:
    trial = there.trials("tiny")[0]
    (first, *_) = there.reports({trial.id})[trial.id]
    odd = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": -0.0, "e": 5e-324, "f": 1.0}
    there.record([trial], [msgspec.structs.replace(first, step=5, metrics=odd)])
    lines = list(export_study(there, "tiny"))
    assert all(json.loads(line, parse_constant=pytest.fail) for line in lines)
    import_study(here, read_study(lines))
    assert list(export_study(here, "tiny")) == lines
    found: list[Report] = [r for r in here.reports({trial.id})[trial.id] if r.step == 5]
    assert msgspec.msgpack.encode(found[0].metrics) == msgspec.msgpack.encode(odd)


def test_the_same_study_with_another_content_is_refused_and_nothing_is_added(
    exported: list[str], here: SqlJournal
) -> None:
    import_study(here, read_study(exported))
    before = list(export_study(here, "tiny"))
    lied = [line.replace('"loss":', '"loss":9', 1) for line in exported]
    with pytest.raises(DivergedError, match="a report must be the same"):
        import_study(here, read_study(lied))
    tried = [
        line.replace('"rate":0', '"rate":1', 1) if '"candidate"' in line else line
        for line in exported
    ]
    with pytest.raises(DivergedError, match="of a search must be the same"):
        import_study(here, read_study(tried))
    other = [line.replace('"question":"', '"question":"Or not? ', 1) for line in exported]
    with pytest.raises(JournalError, match=r"`\$.question` was"):
        import_study(here, read_study(other))
    assert list(export_study(here, "tiny")) == before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda lines: lines[1:], "line 1 is not"),
        (lambda lines: [*lines, "no json"], "is not"),
        (lambda lines: [*lines, '{"thing":1}'], "is not"),
        (lambda lines: [line[:-9] for line in lines], "line 1 is not"),
        (lambda lines: lines[:1], "must be one whole study, but has 0 studies"),
        (lambda lines: [], "must be one whole study, but has 0 studies"),
        (lambda lines: lines[:-1], "its last line says None"),
        (lambda lines: [*lines[:-2], lines[-1]], "must be one whole study"),
        (
            lambda lines: [*(line for line in lines if '{"trial"' not in line), lines[-1]],
            "must be one whole study",
        ),
        (lambda lines: ['{"format":"rigorl study, form 99"}', *lines[1:]], "form 99"),
    ],
)
def test_what_export_did_not_write_is_refused(
    spoil: Any, said: str, exported: list[str], here: SqlJournal
) -> None:
    with pytest.raises(JournalError, match=said):
        import_study(here, read_study(spoil(exported)))
    assert here.names() == []


def test_a_study_that_was_never_run_cannot_be_exported(there: SqlJournal) -> None:
    with pytest.raises(IncompleteResults, match="'tidy' was not; known here: tiny"):
        list(export_study(there, "tidy"))
