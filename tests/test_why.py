"""Why trials wait, were in trouble or failed is told from the journal and the spec."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import TINY, tiny
from rigorl import accounts, experiment, plan, why
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess
from rigorl.outside.journal import SqlJournal, lease, whys
from rigorl.spec import Experiment
from rigorl.trial import Beat, Failure, Start, Trial, Trouble, Waiting
from rigorl.why import Why


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/journal.db"


@pytest.fixture
def journal(url: str) -> Iterator[SqlJournal]:
    with closing(SqlJournal(url)) as kept:
        yield kept


@pytest.fixture
def trials(spec: Experiment) -> list[Trial]:
    return plan.trials(spec, "seeker", "test", {}, spec.seeds.test)


def start(trial: Trial, host: str = "node-7") -> Start:
    return Start(trial=trial.id, stage=0, step=0, host=host)


def beat(trial: Trial, step: int = 5) -> Beat:
    return Beat(trial=trial.id, stage=0, step=step, update=step)


def told(spec: Experiment, journal: SqlJournal, **how: bool) -> list[Why]:
    return why.whys(spec, journal, **{"driven": True, **how})


def test_a_trial_says_what_it_waits_for_until_it_begins(
    journal: SqlJournal, spec: Experiment, trials: list[Trial]
) -> None:
    journal.record(trials, [start(trials[1]), beat(trials[1])])
    assert told(spec, journal) == [Why("seeker", "test", 0, 1, "waits", "it is in line")]
    journal.record(trials, [Waiting(trial=trials[0].id, cause="waits for 1 GPU: all 8 are taken")])
    (waiting,) = told(spec, journal)
    assert (waiting.now, waiting.why) == ("waits", "waits for 1 GPU: all 8 are taken")
    journal.record(trials, [start(trials[0])])
    assert told(spec, journal) == []


def test_troubles_are_told_in_their_order_with_the_attempt_and_its_host(
    journal: SqlJournal, spec: Experiment, trials: list[Trial]
) -> None:
    a, b = trials
    journal.record(trials, [start(b), start(a, "node-1"), beat(a)])
    journal.record([a], [Trouble(trial=a.id, cause="its node node-1 was lost")])
    journal.record([a], [start(a, "node-2"), Trouble(trial=a.id, cause="out of memory")])
    journal.record([a], [start(a, "node-3"), beat(a, 7)])
    assert told(spec, journal) == [
        Why(
            arm="seeker",
            phase="test",
            seed=0,
            trials=1,
            now="troubled",
            why="it plays again, and is at task 1 of 1, step 7",
            troubles=("its node node-1 was lost", "out of memory"),
            attempts=3,
            host="node-3",
        )
    ]
    page = accounts.whys({"tiny": {"driver": "", "trials": told(spec, journal)}})
    assert "- seeker, test, seed 0: troubled, attempt 3 on node-3: it plays again" in page
    assert page.index("its node node-1 was lost") < page.index("out of memory")


def test_a_trial_that_waits_again_says_so_and_what_it_died_of(
    journal: SqlJournal, spec: Experiment, trials: list[Trial]
) -> None:
    a, b = trials
    trouble = Trouble(trial=a.id, cause="its node node-7 was lost")
    journal.record(trials, [start(a), start(b), beat(a), trouble])
    journal.record([a], [Waiting(trial=a.id, cause="waits for 1 CPU: all 2 are taken")])
    (waiting,) = told(spec, journal)
    assert (waiting.now, waiting.why) == ("waits", "waits for 1 CPU: all 2 are taken")
    assert waiting.troubles == ("its node node-7 was lost",)


def test_a_failure_says_its_cause_and_whether_it_is_tried_again(
    journal: SqlJournal, spec: Experiment, trials: list[Trial]
) -> None:
    a, b = trials
    failure = Failure(trial=a.id, stage=0, step=3, cause="loss is nan", lasting=True)
    other = Failure(trial=b.id, stage=0, step=3, cause="its worker died", lasting=False)
    trouble = Trouble(trial=b.id, cause="native code crashed")
    journal.record(trials, [start(a), start(b), trouble, failure, other])
    first, second = told(spec, journal)
    assert (first.now, first.why) == ("failed", "loss is nan")
    assert second.why == "its worker died; the next run tries it again"
    assert second.troubles == ("native code crashed",)


def test_no_sign_of_life_for_a_minute_is_said(
    journal: SqlJournal, spec: Experiment, trials: list[Trial]
) -> None:
    journal.clock = lambda: time.time() - 300
    journal._latest = 0
    journal.record(trials, [start(trial) for trial in trials])
    journal.clock = time.time
    journal.record(trials, [beat(trials[1])])
    (silent,) = told(spec, journal)
    assert (silent.seed, silent.now) == (0, "silent")
    assert silent.why.startswith("no sign of life for 30")
    assert "at task 1 of 1, step 0" in silent.why


def test_what_rests_on_others_says_on_whom(journal: SqlJournal, url: str) -> None:
    space = {"rate": {"kind": "real", "low": 0.001, "high": 0.9}}
    search = {"space": space, "candidates": 6, "generation": 2}
    arms = {
        **TINY["arms"],
        "tuned": {"agent": {"name": "helpers.seeker"}, "search": search},
        "placebo": {"after": "tuned", "agent": {"name": "frozen"}},
    }
    spec = tiny(arms=arms, seeds={"tune": [7], "test": [0, 1]})
    (one, *_) = plan.trials(spec, "seeker", "test", {}, spec.seeds.test)
    journal.record([one], [start(one)])
    assert [(w.arm, w.phase, w.trials, w.why) for w in told(spec, journal)] == [
        ("seeker", "test", 1, "it is in line"),
        ("tuned", "tune", 6, "to be proposed"),
        ("tuned", "test", 2, "for the search, which chooses its settings"),
        ("placebo", "test", 2, "for arm 'tuned', whose policies it is given"),
    ]
    first = plan.search_id(spec, "tuned", {})
    for number in (0, 1):
        journal.propose("tiny", first, number, {"rate": 0.1 + number / 10})
    assert [(w.arm, w.phase, w.trials, w.why) for w in told(spec, journal)[1:4]] == [
        ("tuned", "tune", 1, "it is in line"),
        ("tuned", "tune", 1, "it is in line"),
        ("tuned", "tune", 4, "for the generation before, of which 2 trials are open"),
    ]


def test_what_can_no_longer_be_played_says_so(journal: SqlJournal) -> None:
    broken = {"agent": {"name": "helpers.seeker", "config": {"nan_at": 3}}}
    spec = tiny(arms={"x": broken, "y": {"after": "x", "agent": {"name": "frozen"}}})
    experiment.run(spec, InProcess(), journal, optuna_ask.ask)
    *failed, vain = told(spec, journal)
    assert [w.now for w in failed] == ["failed", "failed"]
    assert (vain.arm, vain.trials) == ("y", 2)
    assert vain.why == "in vain: trials of arm 'x', whose policies it needs, did not finish"


def test_of_a_study_that_is_done_or_pruned_nothing_is_said(
    journal: SqlJournal,
) -> None:
    space = {"rate": {"kind": "choice", "of": [0.9, 0.8, 0.001, 0.002]}}
    search = {"space": space, "candidates": 8, "generation": 2, "prune": {"grace": 0.1}}
    quick = {"name": "helpers.seeker", "config": {"rate": 0.9}}
    budget = {"steps": 40, "exam_every": 10, "exam_episodes": 1}
    arms = {"tuned": {"agent": quick, "search": search}}
    spec = tiny(arms=arms, budget=budget, seeds={"tune": [7], "test": [0]})
    experiment.run(spec, InProcess(), journal, optuna_ask.ask)
    assert any(not state.finished for state in journal.states("tiny")), "one was pruned"
    assert told(spec, journal) == []
    page = accounts.whys({"tiny": {"driver": "", "trials": []}})
    assert "nothing waits, and nothing was in trouble" in page


def test_what_a_search_of_the_past_leads_to_is_in_line(
    journal: SqlJournal, searching: Experiment
) -> None:
    experiment.run(searching, InProcess(), journal, optuna_ask.ask)
    seeds = msgspec.structs.replace(searching.seeds, test=(*searching.seeds.test, 9))
    grown = msgspec.structs.replace(searching, seeds=seeds)
    assert [(w.arm, w.phase, w.seed, w.why) for w in told(grown, journal)] == [
        ("plain", "test", 9, "it is in line"),
        ("tuned", "test", 9, "it is in line"),
    ]


def test_without_a_driver_what_was_begun_goes_on_later(
    journal: SqlJournal, spec: Experiment, trials: list[Trial]
) -> None:
    journal.record(trials, [start(trials[0]), beat(trials[0])])
    (one,) = told(spec, journal, driven=False)
    assert one.now == "stopped"
    assert one.why == "at task 1 of 1, step 5; it goes on from its last checkpoint"


def test_a_driver_that_is_dead_is_named(journal: SqlJournal, url: str, spec: Experiment) -> None:
    journal.begin(spec)
    assert why.driving(journal, "tiny") == ""
    hold(journal, msgspec.structs.replace(lease.myself(), born=0.0))
    said = why.driving(journal, "tiny")
    assert said.startswith(f"its driver, process {lease.myself().pid} on ")
    assert said.endswith(", died")
    journal.end("stopped")


def test_a_driver_elsewhere_is_watched_for_a_moment(
    journal: SqlJournal, spec: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whys, "PATIENCE", 0.3)
    monkeypatch.setattr(whys, "BEAT", 0.1)
    monkeypatch.setattr(lease, "BEAT", 0.5)
    journal.begin(spec)
    far = msgspec.structs.replace(lease.myself(), host="far-away")
    hold(journal, far)
    said = why.driving(journal, "tiny")
    assert f"process {far.pid} on far-away, gave no sign of life" in said
    monkeypatch.setattr(whys, "PATIENCE", 10 * lease.BEAT)  # its true driver beats meanwhile
    assert why.driving(journal, "tiny") == ""


def hold(journal: SqlJournal, holder: lease.Holder) -> None:
    text = msgspec.json.encode(holder).decode()
    journal.database.write(lambda db: db.execute(lease.leases.update().values(holder=text)))


def test_a_study_that_was_stopped_says_so(journal: SqlJournal, spec: Experiment) -> None:
    journal.begin(spec)
    journal.end("stopped")
    assert why.driving(journal, "tiny") == "it was stopped"


def test_trials_that_differ_in_the_seed_only_stand_together() -> None:
    alike = [Why("a", "test", seed, 1, "waits", "waits for 1 GPU") for seed in (0, 1, 2)]
    more = Why("a", "test", None, 4, "waits", "for the search, which chooses its settings")
    trouble = Why("b", "test", 0, 1, "failed", "x", ("y", "y"), 3, "node-1")
    known: dict[str, Any] = {"driver": "its driver died", "trials": [*alike, more, trouble]}
    lines = accounts.whys({"tiny": known}).splitlines()
    assert lines[2] == "its driver died"
    assert lines[4:] == [
        "- a, test, seed 0, 1, 2: waits: waits for 1 GPU",
        "- a, test, 4 more trials: waits: for the search, which chooses its settings",
        "- b, test, seed 0: failed, attempt 3 on node-1: x",
        "  - before, 2 times: y",
    ]
