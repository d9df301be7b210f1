"""MLflow shows what the journal holds, whole and once, on a real store."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from mlflow import MlflowClient

from conftest import tiny
from rigorl import experiment
from rigorl.analysis.scale import ends
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess
from rigorl.outside.journal import SqlJournal, at_home
from rigorl.outside.mlflow_mirror import Mirror
from rigorl.spec import Experiment

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def searching(searching: Experiment) -> Experiment:
    """A longer search, in which some candidates are pruned."""
    arm = searching.arms["tuned"]
    search = msgspec.structs.replace(arm.search, candidates=8, seed=1)
    arms = {**searching.arms, "tuned": msgspec.structs.replace(arm, search=search)}
    return msgspec.structs.replace(searching, arms=arms)


@pytest.fixture
def journal(tmp_path: Path, searching: Experiment) -> Iterator[SqlJournal]:
    with closing(at_home(tmp_path / "home")) as kept:
        experiment.run(searching, InProcess(tmp_path / "trials"), kept, optuna_ask.ask)
        yield kept


def shown(uri: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return trial -> metric -> points."""
    client = MlflowClient(tracking_uri=uri)
    (home,) = (e for e in client.search_experiments() if e.name == "tiny")
    runs = client.search_runs([home.experiment_id], max_results=1000)
    return {
        run.data.tags["trial"]: {
            name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
        for run in runs
        if "trial" in run.data.tags
    }


def test_everything_is_shown_once_however_often_it_is_mirrored(
    journal: SqlJournal, searching: Experiment, tmp_path: Path
) -> None:
    uri, place = f"sqlite:///{tmp_path / 'mlflow.db'}", (tmp_path / "files").as_uri()
    Mirror(uri, place, journal, searching).start().finish("FINISHED", {"verdict.md": "# yes"})
    first = shown(uri)
    again = Mirror(uri, place, journal, searching)
    again.start().finish("FINISHED", {"verdict.md": "# yes"})
    assert again.trouble is None
    assert shown(uri) == first
    reports = journal.reports({trial.id for trial in journal.trials("tiny")})
    assert first.keys() == reports.keys()
    for trial, metrics in first.items():
        assert len(metrics["score/half"]) == len(reports[trial])
        assert len(metrics["loss"]) == len(reports[trial])


def test_a_point_is_sent_again_after_a_death_and_stays_one(
    journal: SqlJournal, searching: Experiment, tmp_path: Path
) -> None:
    """A mirror that died between MLflow and the journal repeats itself; MLflow drops it."""
    uri, place = f"sqlite:///{tmp_path / 'mlflow.db'}", (tmp_path / "files").as_uri()
    Mirror(uri, place, journal, searching).start().finish("FINISHED", {})
    first = shown(uri)
    for what, (run, _) in journal.mirrored(uri).items():
        journal.mark_mirrored(uri, what, run, 0)
    Mirror(uri, place, journal, searching).start().finish("FINISHED", {})
    assert shown(uri) == first


def test_runs_say_what_they_are_and_how_they_ended(
    journal: SqlJournal, searching: Experiment, tmp_path: Path
) -> None:
    uri, place = f"sqlite:///{tmp_path / 'mlflow.db'}", (tmp_path / "files").as_uri()
    Mirror(uri, place, journal, searching).start().finish("FINISHED", {"verdict.md": "# yes"})
    client = MlflowClient(tracking_uri=uri)
    (home,) = (e for e in client.search_experiments() if e.name == "tiny")
    runs = client.search_runs([home.experiment_id], max_results=1000)
    (study,) = (run for run in runs if "trial" not in run.data.tags)
    trials = [run for run in runs if "trial" in run.data.tags]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {study.info.run_id}
    assert {run.data.tags["phase"] for run in trials} == {"tune", "test"}
    assert {run.info.status for run in trials} == {"FINISHED", "KILLED"}  # some were pruned
    assert study.info.status == "FINISHED"
    assert [f.path for f in client.list_artifacts(study.info.run_id)] == ["verdict.md"]
    test = next(run for run in trials if run.data.tags["phase"] == "test")
    assert {"continual/acc", "continual/min_acc", "continual/wf10"} <= test.data.metrics.keys()


def test_measures_on_measured_scales_are_shown_at_the_end(tmp_path: Path) -> None:
    tasks = [
        {"name": "half", "env": "helpers.worlds:Target-v0", "random": "measured", "reference": 0},
        {"name": "less", "env": "helpers.worlds:Target-v0", "random": -5, "reference": 0},
    ]
    spec = tiny(tasks=tasks)
    uri, place = f"sqlite:///{tmp_path / 'mlflow.db'}", (tmp_path / "files").as_uri()
    with closing(at_home(tmp_path / "home")) as journal:
        verdict = experiment.run(spec, InProcess(), journal, optuna_ask.ask)
        Mirror(uri, place, journal, spec).start().finish("FINISHED", {}, ends(verdict.scales))
        reports = journal.reports({trial.id for trial in journal.trials("tiny")})
    found = {
        trial: told for trial, told in shown(uri).items() if any(n.endswith("/acc") for n in told)
    }
    accs = [next(told[name] for name in told if name.endswith("/acc")) for told in found.values()]
    assert {len(points) for points in accs} == {4}
    assert all(len(reports[trial]) == 4 for trial in found)
    final = [points[-1][1] for points in accs]
    expected = verdict.arms["seeker"].continual["acc"].point
    assert sum(final) / len(final) == pytest.approx(expected)


def test_mlflow_that_is_away_is_said_and_caught_up_with(
    journal: SqlJournal, searching: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = Mirror("http://127.0.0.1:9", None, journal, searching)
    away.start().finish("FINISHED", {})
    assert away.trouble
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    back = Mirror(uri, (tmp_path / "files").as_uri(), journal, searching)
    back.trouble = "away"
    back.start().finish("FINISHED", {})
    assert back.trouble is None
    assert shown(uri).keys() == journal.reports({t.id for t in journal.trials("tiny")}).keys()


def test_a_fresh_mlflow_at_the_old_place_is_filled_again(
    journal: SqlJournal, searching: Experiment, tmp_path: Path
) -> None:
    uri, place = f"sqlite:///{tmp_path / 'mlflow.db'}", (tmp_path / "files").as_uri()
    Mirror(uri, place, journal, searching).start().finish("FINISHED", {})
    first = shown(uri)
    MlflowClient(tracking_uri=uri).rename_experiment(
        next(
            e for e in MlflowClient(tracking_uri=uri).search_experiments() if e.name == "tiny"
        ).experiment_id,
        "gone",
    )
    Mirror(uri, place, journal, searching).start().finish("FINISHED", {})
    assert shown(uri) == first
