"""MLflow shows what the journal holds, whole and once, on a real store; whoever dies when."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from conftest import tiny
from rigorl import experiment, plan
from rigorl.analysis.curves import Curve, summary
from rigorl.analysis.scale import ends
from rigorl.errors import Stopped
from rigorl.outside import mlflow_mirror, optuna_ask
from rigorl.outside.in_process import InProcess
from rigorl.outside.journal import Row, SqlJournal, at_home
from rigorl.outside.mlflow_mirror import Mirror
from rigorl.outside.provenance import provenance
from rigorl.spec import Experiment
from rigorl.trial import Event, Failure, Report, Score, Trial

pytestmark = pytest.mark.filterwarnings("default")
Points = dict[str, dict[str, list[tuple[int, float]]]]
LEARNED = {"name": "helpers.seeker"}


class Stopping(InProcess):
    """A cluster on which somebody presses Ctrl-C after so many reports and failures."""

    def __init__(self, storage: Path, after: int) -> None:
        super().__init__(storage)
        self.left = after

    def play(
        self, agenda: plan.Agenda, record: Callable[[Sequence[Trial], Sequence[Event]], None]
    ) -> None:
        def counted(trials: Sequence[Trial], events: Sequence[Event]) -> None:
            record(trials, events)
            self.left -= sum(isinstance(event, Report | Failure) for event in events)
            if self.left <= 0:
                raise Stopped(signal.SIGINT)

        super().play(agenda, counted)


class Dying(SqlJournal):
    """A journal whose process is killed before it takes its n-th note of what MLflow shows."""

    left = 0

    def mark_mirrored(self, target: str, what: str, run: str, seq: int) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        super().mark_mirrored(target, what, run, seq)


class Counting(SqlJournal):
    """A journal that counts the rows that it hands out."""

    read = 0

    def rows(self, of: Collection[str] = (), study: str | None = None, since: int = 0) -> list[Row]:
        found = super().rows(of, study, since)
        self.read += len(found)
        return found


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's store, made once: that takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(empty: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty, tmp_path / 'mlflow.db')}"


@pytest.fixture
def searching(searching: Experiment) -> Experiment:
    """A longer search, in which some candidates are pruned."""
    arm = searching.arms["tuned"]
    search = msgspec.structs.replace(arm.search, candidates=8, seed=1)
    arms = {**searching.arms, "tuned": msgspec.structs.replace(arm, search=search)}
    return msgspec.structs.replace(searching, arms=arms)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqlJournal]:
    with closing(at_home(tmp_path / "home")) as kept:
        yield kept


def play(spec: Experiment, journal: SqlJournal, tmp_path: Path) -> None:
    experiment.run(spec, InProcess(tmp_path / "trials"), journal, optuna_ask.ask)


def mirror(uri: str, journal: SqlJournal, spec: Experiment, status: str = "FINISHED") -> Mirror:
    """Show all there is. Files lie beside the journal, so that a place has one home only."""
    place = Path(str(journal.database.url.database)).parent / "files"
    shown = Mirror(uri, place.as_uri() if uri.startswith("sqlite") else None, journal, spec)
    shown.start().finish(status, {"verdict.md": "# yes", "figures/tests.json": "{}"})
    return shown


def runs(uri: str) -> list[Run]:
    client = MlflowClient(tracking_uri=uri)
    (home,) = (e for e in client.search_experiments() if e.name == "tiny")
    found: list[Run] = client.search_runs([home.experiment_id], max_results=1000)
    return found


def named(uri: str) -> dict[str, Run]:
    found = {run.info.run_name: run for run in runs(uri)}
    assert len(found) == len(runs(uri)), "no run is there twice"
    return found


def shown(uri: str) -> Points:
    """Return run -> metric -> points, for every run that is not deleted, as the store has them."""
    query = (
        "select t.value, m.key, m.step, m.value from metrics m join runs r using (run_uuid) "
        "join tags t using (run_uuid) where t.key = 'what' and r.lifecycle_stage = 'active' "
        "order by m.timestamp, m.step, m.rowid"
    )
    found: Points = {}
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as db:
        for what, key, step, value in db.execute(query):
            name = what.rpartition("/")[2]
            found.setdefault(name, {}).setdefault(key, []).append((step, value))
    return found


def told(journal: SqlJournal) -> Points:
    """Return trial -> some metrics -> points, as the journal has them: in order, none twice."""
    trials = {trial.id: trial for trial in journal.trials("tiny")}
    points: Points = {}
    for id_, reports in journal.reports(trials).items():
        curve = Curve.of(trials[id_], reports)
        steps = list(map(int, curve.total_step_N))
        points[id_] = {
            f"score/{task}": list(zip(steps, map(float, scores_N), strict=True))
            for task, scores_N in zip(curve.tasks, curve.scores_TN, strict=True)
        }
        losses = [report.metrics["loss"] for report in reports]
        points[id_]["loss"] = list(zip(steps, losses, strict=True))
    return points


def assert_whole(uri: str, journal: SqlJournal) -> None:
    """MLflow shows each point of the journal, in order, and none twice."""
    found = shown(uri)
    for id_, metrics in told(journal).items():
        assert {name: found[id_][name] for name in metrics} == metrics
    for metrics in found.values():
        for points in metrics.values():
            assert max(Counter(step for step, _ in points).values()) == 1
    assert all(count == 1 for count in Counter(run.data.tags["what"] for run in runs(uri)).values())


def test_a_search_is_shown_as_study_candidates_and_trials(
    journal: SqlJournal, searching: Experiment, tmp_path: Path, uri: str
) -> None:
    play(searching, journal, tmp_path)
    assert mirror(uri, journal, searching).trouble is None
    assert_whole(uri, journal)
    first, found = shown(uri), named(uri)
    by_id = {run.info.run_id: run for run in found.values()}
    study = found["tiny"]
    groups = [
        r for r in found.values() if r.data.tags.get("mlflow.parentRunId") == study.info.run_id
    ]
    candidates = {f"tuned candidate {n}" for n in range(8)}
    assert {r.info.run_name for r in groups} == {"plain test", "tuned test", *candidates}
    trials = [r for r in found.values() if "trial" in r.data.tags]
    for run in trials:
        above = by_id[run.data.tags["mlflow.parentRunId"]]
        assert above in groups
        shared = {"study", "arm", "phase", "config", "git", "lock", "candidate", "state"}
        said = {key: value for key, value in run.data.tags.items() if key in shared}
        assert {key: above.data.tags.get(key) for key in said} == said
        assert above.data.params == run.data.params
        assert run.data.tags["seed"] in {"0", "1", "2", "10", "11"}
    proposed = journal.proposed(plan.search_id(searching, "tuned", {}))
    for number, config in proposed.items():
        assert float(found[f"tuned candidate {number}"].data.params["rate"]) == config["rate"]
    assert Counter(r.data.tags["state"] for r in groups).keys() == {"finished", "pruned"}
    statuses = {"finished": "FINISHED", "pruned": "KILLED"}
    assert all(r.info.status == statuses[r.data.tags["state"]] for r in (*groups, *trials))
    assert all(0 < r.info.start_time <= r.info.end_time for r in found.values())
    client = MlflowClient(tracking_uri=uri)
    files = [f.path for f in client.list_artifacts(study.info.run_id)]
    assert files == ["figures", "verdict.md"]
    assert provenance().items() <= study.data.tags.items()
    exam = next(r for r in trials if r.data.tags["phase"] == "test")
    assert {"continual/acc", "continual/min_acc", "continual/wf10"} <= exam.data.metrics.keys()

    counting = Counting(str(journal.database.url))
    assert mirror(uri, counting, searching).trouble is None
    assert shown(uri) == first
    assert len(named(uri)) == len(found)
    assert counting.read == 0, "what is shown is not read again"


def test_summaries_are_those_of_the_curves_and_their_means(
    journal: SqlJournal, spec: Experiment, tmp_path: Path, uri: str
) -> None:
    play(spec, journal, tmp_path)
    mirror(uri, journal, spec)
    trials = {trial.id: trial for trial in journal.trials("tiny")}
    reports = journal.reports(trials)
    expected = {id_: summary(Curve.of(trials[id_], reports[id_])) for id_ in trials}
    found = shown(uri)
    for id_, values in expected.items():
        assert values == {name: found[id_][name][-1][1] for name in values}
    above = named(uri)["seeker test"].data.metrics
    assert above.pop("n") == 2
    assert above.keys() == {"final/half", "best/half", "auc/half"}
    for name, value in above.items():
        assert value == pytest.approx(sum(ones[name] for ones in expected.values()) / 2)

    more = tiny(seeds={"test": [0, 1, 2]})
    play(more, journal, tmp_path)
    mirror(uri, journal, more)
    assert shown(uri)[plan.group(next(iter(trials.values())), trials)]["n"] == [(2, 2.0), (3, 3.0)]
    assert_whole(uri, journal)


def test_who_failed_or_was_stopped_is_said_so_and_may_go_on(
    journal: SqlJournal, tmp_path: Path, uri: str
) -> None:
    arms = {
        "bad": {"agent": {**LEARNED, "config": {"nan_at": 12}}},
        "good": {"agent": LEARNED},
    }
    spec = tiny(arms=arms)
    with pytest.raises(Stopped):
        experiment.run(spec, Stopping(tmp_path / "trials", 5), journal, optuna_ask.ask)
    mirror(uri, journal, spec, "KILLED")
    found = named(uri)
    states = {name: (run.data.tags["state"], run.info.status) for name, run in found.items()}
    assert states["bad test seed 0"] == states["bad test"] == ("failed", "FAILED")
    assert states["good test seed 0"] == states["good test"] == ("stopped", "KILLED")
    assert states["tiny"] == ("stopped", "KILLED")
    assert "nan" in found["bad test seed 0"].data.tags["cause"]
    play(spec, journal, tmp_path)
    mirror(uri, journal, spec, "FAILED")
    states = {n: (r.data.tags["state"], r.info.status) for n, r in named(uri).items()}
    assert states["bad test seed 0"] == states["bad test"] == ("failed", "FAILED")
    assert states["good test seed 0"] == states["good test"] == ("finished", "FINISHED")
    assert states["tiny"] == ("failed", "FAILED")
    assert_whole(uri, journal)


def test_a_search_that_is_stopped_says_who_was_pruned_and_who_was_not(
    journal: SqlJournal, searching: Experiment, tmp_path: Path, uri: str
) -> None:
    with pytest.raises(Stopped):
        experiment.run(searching, Stopping(tmp_path / "trials", 57), journal, optuna_ask.ask)
    mirror(uri, journal, searching, "KILLED")
    before = {n: r.data.tags["state"] for n, r in named(uri).items() if n[-2] == " "}
    assert set(before.values()) == {"finished", "pruned", "stopped"}
    (stopped,) = (name for name, state in before.items() if state == "stopped")
    assert stopped == "tuned candidate 6"
    play(searching, journal, tmp_path)
    mirror(uri, journal, searching)
    after = {n: r.data.tags["state"] for n, r in named(uri).items()}
    assert before.items() - {(stopped, "stopped")} <= after.items()
    assert set(after.values()) == {"finished", "pruned"}


def test_whoever_dies_before_whichever_note_nothing_is_there_twice(
    journal: SqlJournal, spec: Experiment, tmp_path: Path, uri: str
) -> None:
    """The mirror is killed after each thing it does in MLflow, before it notes that it did it."""
    play(spec, journal, tmp_path)
    deaths = 0
    while (died := _mirror_in_a_fork(str(journal.database.url), uri, spec)) != 0:
        assert died == -signal.SIGKILL
        deaths += 1
        assert deaths < 30
    assert deaths >= 10, "three for each trial, three for their group, more for the study"
    assert_whole(uri, journal)
    assert {r.data.tags["state"] for r in runs(uri)} == {"finished"}
    assert len(named(uri)) == 1 + 1 + 2


def _mirror_in_a_fork(url: str, uri: str, spec: Experiment) -> int:
    """Mirror in a process that takes one note and is killed before the next; return its end."""
    child = os.fork()
    if child == 0:
        dying = Dying(url)
        dying.left = 2
        os._exit(1 if mirror(uri, dying, spec).trouble else 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_exams_of_one_step_that_come_at_once_are_all_there_and_in_order(
    journal: SqlJournal, tmp_path: Path, uri: str
) -> None:
    """Dense exams, as Ray may bring them: the same step, the same moment, the same value."""
    tasks = [{"name": name, "env": "helpers.worlds:Target-v0"} for name in ("half", "less")]
    spec = tiny(tasks=tasks, seeds={"test": [0]})
    (trial,) = plan.trials(spec, "seeker", "test", {}, [0])
    values = [1.0, 3.0, 3.0, 2.0, 3.0]
    reports = [
        Report(
            trial=trial.id,
            stage=min(update, 1),
            step=10,
            update=update,
            rung=None,
            stage_ended=False,
            finished=False,
            metrics={},
            scores=(Score("half", "policy", ((value,),)),),
        )
        for update, value in enumerate(values)
    ]
    journal.record([trial], reports[:3])
    mirror(uri, journal, spec, "KILLED")
    journal.record([trial], reports[3:])
    mirror(uri, journal, spec, "KILLED")
    assert shown(uri)[trial.id]["score/half"] == list(
        zip([10, 30, 30, 30, 30], values, strict=True)
    )


def test_measures_on_measured_scales_are_shown_at_the_end(
    journal: SqlJournal, tmp_path: Path, uri: str
) -> None:
    tasks = [
        {"name": "half", "env": "helpers.worlds:Target-v0", "random": "measured", "reference": 0},
        {"name": "less", "env": "helpers.worlds:Target-v0", "random": -5, "reference": 0},
    ]
    spec = tiny(tasks=tasks)
    verdict = experiment.run(spec, InProcess(), journal, optuna_ask.ask)
    for _ in range(2):
        Mirror(uri, tmp_path.as_uri(), journal, spec).start().finish(
            "FINISHED", {}, ends(verdict.scales)
        )
    accs = [
        points
        for metrics in shown(uri).values()
        for name, points in metrics.items()
        if name.endswith("/acc")
    ]
    assert [len(points) for points in accs] == [4, 4]
    final = [points[-1][1] for points in accs]
    expected = verdict.arms["seeker"].continual["acc"].point
    assert sum(final) / len(final) == pytest.approx(expected)
    assert {"uniform scale", "uniform scale half seed 0"} <= named(uri).keys()


def test_mlflow_of_an_older_journal_is_taken_up(
    journal: SqlJournal, spec: Experiment, tmp_path: Path, uri: str
) -> None:
    """Once there were no groups, no tags to find runs by, and no notes of ends."""
    play(spec, journal, tmp_path)
    client = MlflowClient(tracking_uri=uri)
    home = client.create_experiment("tiny", artifact_location=tmp_path.as_uri())
    old = journal.trials("tiny")[0]
    for what in ("study:tiny", old.id):
        run = client.create_run(home).info.run_id
        journal.mark_mirrored(uri, what, run, max(row.seq for row in journal.rows({old.id})))
    assert mirror(uri, journal, spec).trouble is None
    tags = Counter(run.data.tags["state"] for run in runs(uri))
    assert tags == {"finished": 4}, "study, the old trial, a group, a new trial below it"


def test_a_fresh_mlflow_at_the_old_place_is_filled_again(
    journal: SqlJournal, spec: Experiment, tmp_path: Path, uri: str
) -> None:
    play(spec, journal, tmp_path)
    mirror(uri, journal, spec)
    first = shown(uri)
    client = MlflowClient(tracking_uri=uri)
    (home,) = (e for e in client.search_experiments() if e.name == "tiny")
    client.rename_experiment(home.experiment_id, "gone")
    client.delete_experiment(home.experiment_id)
    mirror(uri, journal, spec)
    assert shown(uri) == first
    assert_whole(uri, journal)


def test_what_a_person_deleted_stays_so_until_it_is_brought_back(
    journal: SqlJournal, spec: Experiment, tmp_path: Path, uri: str
) -> None:
    with pytest.raises(Stopped):
        experiment.run(spec, Stopping(tmp_path / "trials", 1), journal, optuna_ask.ask)
    mirror(uri, journal, spec, "KILLED")
    client = MlflowClient(tracking_uri=uri)
    run = named(uri)["seeker test seed 0"].info
    client.delete_run(run.run_id)
    play(spec, journal, tmp_path)
    assert mirror(uri, journal, spec).trouble is None
    assert named(uri).keys() == {"tiny", "seeker test", "seeker test seed 1"}
    client.restore_run(run.run_id)
    assert mirror(uri, journal, spec).trouble is None
    assert_whole(uri, journal)
    assert {r.data.tags["state"] for r in runs(uri)} == {"finished"}

    client.delete_experiment(run.experiment_id)
    away = mirror(uri, journal, spec)
    assert "mlflow experiments restore" in str(away.trouble)
    client.restore_experiment(run.experiment_id)
    assert mirror(uri, journal, spec).trouble is None
    assert_whole(uri, journal)


def test_a_run_that_is_gone_for_good_is_made_again_when_there_is_news(
    journal: SqlJournal, spec: Experiment, tmp_path: Path, uri: str
) -> None:
    with pytest.raises(Stopped):
        experiment.run(spec, Stopping(tmp_path / "trials", 1), journal, optuna_ask.ask)
    mirror(uri, journal, spec, "KILLED")
    run = named(uri)["seeker test seed 0"].info.run_id
    MlflowClient(tracking_uri=uri)._tracking_client.store._hard_delete_run(run)
    play(spec, journal, tmp_path)
    assert mirror(uri, journal, spec).trouble is None
    assert named(uri).keys() >= {"seeker test", "seeker test seed 0", "seeker test seed 1"}
    assert_whole(uri, journal)


def test_the_end_of_the_program_waits_for_mlflow_but_not_for_long(
    journal: SqlJournal, spec: Experiment, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(spec, journal, tmp_path)
    monkeypatch.setattr(mlflow_mirror, "PATIENCE", 1.0)
    refuses = mirror("http://127.0.0.1:9", journal, spec)
    assert refuses.trouble
    with socket.create_server(("127.0.0.1", 0)) as silent:
        clock = time.monotonic()
        hangs = mirror(f"http://127.0.0.1:{silent.getsockname()[1]}", journal, spec)
        assert time.monotonic() - clock < 2.0
    assert hangs.trouble
    assert journal.mirrored(uri) == {}
    monkeypatch.undo()
    assert mirror(uri, journal, spec).trouble is None, "the next run catches up"
    assert_whole(uri, journal)


def test_mlflow_that_stops_answering_and_comes_back_has_all_of_it_once(
    journal: SqlJournal, spec: Experiment, empty: Path, tmp_path: Path, uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A server is frozen while it is written to: what was given up may be done all the same."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(mlflow_mirror, "EVERY", 0.1)
    with server(uri, tmp_path) as (address, process):
        watching = Mirror(address, None, journal, spec).start()
        wait_for(lambda: journal.mirrored(address))
        os.killpg(process.pid, signal.SIGSTOP)
        play(spec, journal, tmp_path)
        wait_for(lambda: watching.trouble)
        os.killpg(process.pid, signal.SIGCONT)
        watching.finish("FINISHED", {"verdict.md": "# yes"})
        assert watching.trouble is None
        assert_whole(uri, journal)
        assert {r.data.tags["state"] for r in runs(uri)} == {"finished"}


def test_a_password_of_mlflows_is_neither_told_nor_kept(
    journal: SqlJournal, spec: Experiment, empty: Path, tmp_path: Path, uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    play(spec, journal, tmp_path)
    monkeypatch.setattr(mlflow_mirror, "PATIENCE", 5.0)
    away = mirror("http://me:hunter2@127.0.0.1:9", journal, spec)
    assert away.trouble
    assert "hunter2" not in away.trouble
    monkeypatch.undo()
    with server(uri, tmp_path) as (address, _):
        secret = address.replace("://", "://me:hunter2@")
        assert mirror(secret, journal, spec).trouble is None
        assert mirror(secret, journal, spec).trouble is None
    assert_whole(uri, journal)
    assert journal.mirrored(secret) == {}
    assert journal.mirrored(address.replace("://", "://...@"))


@contextmanager
def server(uri: str, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", uri]
    command += ["--default-artifact-root", (tmp_path / "files").as_uri()]
    quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(
        command,
        env=quiet,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for(lambda: _answers(port))
            yield f"http://127.0.0.1:{port}", process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)
