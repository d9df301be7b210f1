"""Both journals keep the same promises: the one that forgets, and the one that does not."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rigorl import plan
from rigorl.errors import DivergedError, JournalError
from rigorl.outside.in_process import Memory
from rigorl.outside.journal import SqlJournal, at_home, database
from rigorl.spec import Experiment
from rigorl.trial import Beat, Failure, Report, Score, Start, Trial


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: Any, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield Memory()
    else:
        with closing(at_home(tmp_path / "home")) as kept:
            yield kept


@pytest.fixture
def trials(spec: Experiment) -> list[Trial]:
    return plan.trials(spec, "seeker", "test", {}, spec.seeds.test)


def report(trial: Trial, step: int = 10, loss: float = 1.0, **changes: Any) -> Report:
    parts: dict[str, Any] = {
        "trial": trial.id,
        "stage": 0,
        "step": step,
        "update": step,
        "rung": 0,
        "stage_ended": False,
        "finished": False,
        "metrics": {"loss": loss},
        "scores": (Score("half", "constant", ((1.0,), (-0.0,))),),
    }
    return Report(**{**parts, **changes})


def test_what_was_recorded_is_told_in_its_order(journal: Any, trials: list[Trial]) -> None:
    a, b = trials
    told = [report(a, 10), report(b, 10), report(a, 20, update=5), report(a, 20, update=6)]
    journal.record(trials, told[:2])
    journal.record(trials, told[2:])
    assert journal.reports({a.id, b.id}) == {a.id: [told[0], *told[2:]], b.id: [told[1]]}
    assert journal.reports({b.id}) == {b.id: [told[1]]}
    assert journal.reports(set()) == {}


def test_the_same_again_is_no_news(journal: Any, trials: list[Trial]) -> None:
    journal.record(trials, [report(trials[0])])
    journal.record(trials, [report(trials[0]), report(trials[0])])
    assert len(journal.reports({trials[0].id})[trials[0].id]) == 1


def test_another_content_under_the_same_key_is_refused(journal: Any, trials: list[Trial]) -> None:
    journal.record(trials, [report(trials[0])])
    with pytest.raises(DivergedError, match="not deterministic"):
        journal.record(trials, [report(trials[0], loss=2.0)])
    with pytest.raises(DivergedError):
        journal.record(trials, [report(trials[0], 30), report(trials[0], 30, loss=2.0)])


def test_odd_numbers_come_back_as_they_were(tmp_path: Path, trials: list[Trial]) -> None:
    odd = [math.inf, -math.inf, math.nan, -0.0, 5e-324]
    told = [report(trials[0], step, loss) for step, loss in enumerate(odd)]
    with closing(at_home(tmp_path)) as journal:
        journal.record(trials, told)
        journal.record(trials, told)
        (found,) = journal.reports({trials[0].id}).values()
    assert msgspec.msgpack.encode(found) == msgspec.msgpack.encode(told)


def test_failures_that_need_not_last_are_forgotten_at_the_next_run(
    journal: Any, spec: Experiment, trials: list[Trial]
) -> None:
    for trial, lasting in zip(trials, (True, False), strict=True):
        failure = Failure(trial=trial.id, stage=0, step=3, cause="x", lasting=lasting)
        journal.record(trials, [failure])

    def failed() -> set[str]:
        return {id_ for id_, standing in journal.standings("tiny").items() if standing.failure}

    assert failed() == {trial.id for trial in trials}
    journal.begin(spec)
    assert failed() == {trials[0].id}


def test_what_was_proposed_is_known_again(journal: Any) -> None:
    journal.propose("tiny", "search", 0, {"rate": 0.1, "hidden": [64, 64]})
    journal.propose("tiny", "search", 1, {"rate": 1.0})
    journal.propose("tiny", "other", 0, {})
    assert journal.proposed("search") == {
        0: {"rate": 0.1, "hidden": [64, 64]},
        1: {"rate": 1.0},
    }
    assert isinstance(journal.proposed("search")[1]["rate"], float)


def test_a_batch_is_recorded_whole_or_not_at_all(tmp_path: Path, trials: list[Trial]) -> None:
    with closing(at_home(tmp_path)) as journal:
        journal.record(trials, [report(trials[0])])
        with pytest.raises(DivergedError):
            journal.record(trials, [report(trials[1]), report(trials[0], loss=2.0)])
        assert journal.reports({trials[1].id}) == {}


def test_how_far_mlflow_is_behind_is_counted_at_the_place_that_is_furthest(
    tmp_path: Path, trials: list[Trial]
) -> None:
    with closing(at_home(tmp_path)) as journal:
        assert journal.behind("tiny") is None
        for target in ("here", "there"):
            journal.mark_mirrored(target, "study:tiny", "run", 0)
        journal.record(trials, [report(trials[0], step) for step in range(5)])
        assert journal.behind("tiny") == 5
        journal.mark_mirrored("here", "study:tiny", "run", 5)
        journal.mark_mirrored("there", "study:tiny", "run", 3)
        assert journal.behind("tiny") == 2
        assert journal.behind("other") is None


def test_states_follow_beats_reports_and_failures(
    tmp_path: Path, spec: Experiment, trials: list[Trial]
) -> None:
    with closing(at_home(tmp_path)) as journal:
        journal.begin(spec)
        journal.record(trials, [Beat(trial=trials[0].id, stage=0, step=7, update=7)])
        assert [(s.step, s.finished) for s in journal.states("tiny") if s.step] == [(7, False)]
        journal.record(trials, [report(trials[0], 20, finished=True)])
        (state,) = (s for s in journal.states("tiny") if s.trial == trials[0])
        assert (state.step, state.finished) == (20, True)
        assert journal.names() == ["tiny"]
        assert journal.spec("tiny") == spec


def test_it_outlives_the_one_who_wrote_it(tmp_path: Path, trials: list[Trial]) -> None:
    with closing(at_home(tmp_path)) as journal:
        journal.record(trials, [report(trials[0])])
    with closing(at_home(tmp_path)) as journal:
        assert journal.reports({trials[0].id})[trials[0].id] == [report(trials[0])]
        assert {t.id for t in journal.trials("tiny")} == {t.id for t in trials}


def test_a_journal_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="home must be a folder"):
        at_home(tmp_path / "file" / "home")
    (tmp_path / "broken.db").write_text("this is no database, whatever its name says" * 99)
    with pytest.raises(JournalError, match="the journal must be a database"):
        SqlJournal(f"sqlite:///{tmp_path / 'broken.db'}")


def test_a_file_that_another_program_holds_is_said_to_be(
    tmp_path: Path, trials: list[Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCKED_MS", 50)
    with closing(at_home(tmp_path)) as journal:
        holder = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="another program holds it; end that program"):
            journal.record(trials, [report(trials[0])])
        assert journal.reports({trials[0].id}) == {}  # to read, nobody waits
        holder.execute("ROLLBACK")
        holder.close()
        journal.record(trials, [report(trials[0])])


def test_of_an_inexact_agent_the_first_report_of_a_rung_stands(
    tmp_path: Path, trials: list[Trial]
) -> None:
    first, again = (
        report(trials[0], step, loss, exact=False) for step, loss in ((10, 1.0), (14, 9.0))
    )
    again = msgspec.structs.replace(again, scores=(Score("half", "constant", ((7.0,),)),))
    with closing(at_home(tmp_path)) as journal:
        journal.standings("tiny")
        journal.record(trials[:1], [first])
        journal.record(trials[:1], [again])
        kept = dict(journal.standings("tiny"))
    with closing(at_home(tmp_path)) as journal:
        assert journal.standings("tiny") == kept
        assert journal.reports({trials[0].id}) == {trials[0].id: [first]}


def test_times_never_go_back(tmp_path: Path, trials: list[Trial]) -> None:
    steps = iter([100.0, 50.0, 200.0, 0.0])
    url = f"sqlite:///{tmp_path}/journal.db"
    with closing(SqlJournal(url, lambda: next(steps))) as journal:
        for step in (1, 2, 3):
            journal.record(trials[:1], [report(trials[0], step)])
        assert [row.at for row in journal.rows(study="tiny")] == [100_000, 100_000, 200_000]
    with closing(SqlJournal(url, lambda: 0.0)) as journal:
        journal.record(trials[:1], [report(trials[0], 4)])
        assert journal.rows(study="tiny")[-1].at == 200_000


def test_a_corrupt_checkpoint_is_said_aloud(
    tmp_path: Path, trials: list[Trial], caplog: pytest.LogCaptureFixture
) -> None:
    with closing(at_home(tmp_path)) as journal:
        note = "checkpoint-0000 is corrupt; began anew"
        start = Start(trial=trials[0].id, stage=0, step=0, host="here", note=note)
        journal.record(trials, [start])
    assert f"trial {trials[0].id}: {note}" in caplog.text


def test_a_study_of_which_nothing_was_played_may_be_any_other(
    tmp_path: Path, spec: Experiment, trials: list[Trial]
) -> None:
    """A wrong storage, say, ends the first run before it begins: the spec is not settled then."""
    other = msgspec.structs.replace(spec, question="Another one?")
    with closing(at_home(tmp_path)) as journal:
        journal.begin(spec)
        journal.end("stopped")
        journal.begin(other)
        journal.end("stopped")
        assert journal.spec("tiny") == other
        journal.begin(spec)
        journal.record(trials, [report(trials[0])])
        journal.end("stopped")
        with pytest.raises(JournalError, match="may grow by arms"):
            journal.begin(other)
