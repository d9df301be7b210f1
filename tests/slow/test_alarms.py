"""Alarms as a person meets them: on Ray, in a bucket, in MLflow, at the terminal."""

import json
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from helpers.commands import rigorl
from helpers.s3 import served
from rigorl.outside.journal import SqlJournal, hosts

pytestmark = pytest.mark.filterwarnings("default")
SPEC = """
name: small
question: Does the alarm go off, and is it heard?
arms:
  quick: {agent: {name: helpers.seeker, config: {rate: 0.1, every: 3}}}
  still: {agent: {name: helpers.seeker, config: {rate: 0.001, every: 3}}}
tasks:
  - {name: half, env: helpers.worlds:Target-v0, kwargs: {noise: 0.01}, random: -5, reference: 0}
  - {name: minus, env: helpers.worlds:Target-v0, kwargs: {target: -0.5}}
  - {name: more, env: helpers.worlds:Target-v0, kwargs: {target: 0.8}, random: -5, reference: 0}
budget: {steps: 40, exam_every: 5, exam_episodes: 2, dense: [1, 3], checkpoint_every: 6}
seeds: {test: [0, 1]}
alarm: {drop: 0.3, within: 4, then: THEN}
"""
SCALED = "minus, env: helpers.worlds:Target-v0, random: -5, reference: 0"
LOCAL = ("--local", "--mlflow", "none")
THENS = ("mark", "stop", "roll_back")


@pytest.fixture(params=THENS)
def then(request: pytest.FixtureRequest, place: Path) -> str:
    told = rigorl(place, "run", f"{request.param}.yaml", *LOCAL, "--home", "here")
    assert told.returncode == 0, told.stderr
    return str(request.param)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    spec = SPEC.replace("minus, env: helpers.worlds:Target-v0", SCALED)
    for then in THENS:
        (tmp_path / f"{then}.yaml").write_text(spec.replace("THEN", then))
    return tmp_path


def exported(place: Path, home: str) -> list[str]:
    """Return all that is known but the spec, which says who takes exams."""
    told = rigorl(place, "export", "small", "--home", home)
    assert told.returncode == 0, told.stderr
    return [line for line in told.stdout.splitlines() if not line.startswith('{"study"')]


def played(place: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    told = rigorl(place, "run", *words)
    assert told.returncode == 0, told.stderr
    return told


def test_on_ray_with_others_who_examine_the_same_comes_of_it(place: Path, then: str) -> None:
    crew = ("--set", "exam.crew=1", "--set", "exam.backlog=4")
    played(place, f"{then}.yaml", "--mlflow", "none", "--home", "ray", *crew)
    assert exported(place, "ray") == exported(place, "here")


def test_in_a_bucket_it_finds_where_to_go_back_to(place: Path) -> None:
    played(place, "roll_back.yaml", *LOCAL, "--home", "here")
    with served("alarms") as s3:
        storage = s3.url("alarms/trials")
        played(place, "roll_back.yaml", *LOCAL, "--home", "bucket", "--storage", storage)
        assert any("checkpoint-" in key for key in s3.keys("alarms/trials"))
    assert exported(place, "bucket") == exported(place, "here")


def test_it_is_told_wherever_one_looks(place: Path, then: str) -> None:
    words = (f"{then}.yaml", "--home", "here")
    page = rigorl(place, "report", *words).stdout
    verdict = json.loads(rigorl(place, "report", *words, "--json").stdout)
    status = rigorl(place, "status", "--home", "here").stdout
    told = json.loads(rigorl(place, "status", "--home", "here", "--json").stdout)["small"]
    raised = verdict["arms"]["quick"]["alarms"]
    assert raised
    assert verdict["arms"]["still"]["alarms"] == []
    first = raised[0]
    assert (first["task"], first["at"]) == ("half", {"stage": 1, "step": 5, "update": 45})
    assert first["outcome"] == {"mark": "marked", "stop": "stopped"}.get(then, "rolled back")
    assert told["alarms"] == raised
    assert "half fell by 0.406 at stage 2, step 5, update 45, from 0.99" in status
    assert "| stage 2, step 5, update 45 " in page
    assert ("Stopped by the alarm:" in page) == (then == "stop")
    quick = verdict["arms"]["quick"]
    assert quick["complete"] == (then != "stop")
    assert [one["seed"] for one in quick["stopped"]] == ([0, 1] if then == "stop" else [])
    assert quick["failures"] == []
    assert told["arms"]["quick, test"]["stopped"] == len(quick["stopped"])
    assert told["arms"]["quick, test"]["failed"] == 0


def marked(place: Path, home: str) -> dict[str, tuple[str, str | None, dict[str, float]]]:
    """Return of each run in MLflow how it ended, its tag, and its points."""
    client = MlflowClient(tracking_uri=f"sqlite:///{place / home / 'mlflow.db'}")
    (found,) = (e for e in client.search_experiments() if e.name == "small")
    return {
        run.info.run_name: (
            run.data.tags["state"],
            run.data.tags.get("alarm"),
            {name: x for name, x in run.data.metrics.items() if name.startswith("alarm-")},
        )
        for run in client.search_runs([found.experiment_id])
    }


def test_mlflow_is_marked_and_marked_again_where_the_alarm_changes(place: Path) -> None:
    words = ("mark.yaml", "--local", "--home", "home")
    played(place, *words)
    state, tag, points = marked(place, "home")["quick test seed 0"]
    assert state == "finished"
    assert tag is not None
    assert tag.startswith("half fell by 0.406 at stage 2, step 5, update 45")
    assert points.keys() == {"alarm-0.3-4/half", "alarm-0.3-4/minus"}
    assert marked(place, "home")["still test seed 0"] == ("finished", None, {})
    played(place, *words, "--set", "alarm.drop=0.9")
    state, tag, again = marked(place, "home")["quick test seed 0"]
    assert (state, tag, again) == ("finished", "", points)
    played(place, *words, "--set", "alarm.drop=0.2")
    _, tag, again = marked(place, "home")["quick test seed 0"]
    assert tag
    assert again.keys() > points.keys()


def test_what_it_stopped_is_stopped_in_mlflow_too(place: Path) -> None:
    played(place, "stop.yaml", "--local", "--home", "home")
    state, tag, points = marked(place, "home")["quick test seed 1"]
    assert state == "stopped"
    assert tag
    assert points
    assert marked(place, "home")["quick test"][0] == "stopped"
    assert marked(place, "home")["small"][0] == "finished"


def test_what_it_stopped_is_not_played_again(place: Path) -> None:
    begun = []
    for _ in range(2):
        played(place, "stop.yaml", *LOCAL, "--home", "home")
        with closing(SqlJournal(f"sqlite:///{place / 'home' / 'journal.db'}")) as journal:
            begun.append(hosts(journal.database, "small"))
    assert begun[0] == begun[1]
    assert sum(begun[0].values()) == 4
