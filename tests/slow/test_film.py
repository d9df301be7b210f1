"""Films as a person makes them: played again, really drawn, shown in MLflow. They need an EGL."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from helpers.commands import environment, rigorl
from helpers.leaner import Lean
from helpers.robots import ROBOT
from rigorl.outside import film
from rigorl.outside.journal import at_home
from rigorl.ports import PortSpec
from rigorl.spec import TaskSpec
from rigorl.tasks.exam import Exam
from rigorl.tasks.seen import Moment, look_on
from rigorl.trial import Report

pytestmark = pytest.mark.filterwarnings("default")
SPEC = """
name: pushed
question: Is what was scored what is seen?
arms:
  calm: {agent: {name: uniform}}
  leaner: {agent: {name: helpers.leaner}}
tasks:
  - name: walk
    env: Ant-v5
    robot: mine.xml
    kwargs: {main_body: torso, healthy_z_range: [0.05, 1], max_episode_steps: 150}
    port: {bodies: [torso], limit: 40, best: 0}
budget: {steps: 40, exam_every: 20, exam_episodes: 3}
seeds: {test: [0, 1]}
"""
WALK = TaskSpec(
    name="walk",
    env="Ant-v5",
    robot=ROBOT.read_text(),
    kwargs={"main_body": "torso"},
    port=PortSpec(bodies=("torso",), limit=40.0, axes="x", best=0.0),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the study was run, with MLflow."""
    place = tmp_path_factory.mktemp("film")
    (place / "pushed.yaml").write_text(SPEC)
    shutil.copy(ROBOT, place / "mine.xml")
    done = rigorl(place, "run", "pushed.yaml", "--local")
    assert done.returncode == 0, done.stderr
    return place


def finals(place: Path, seed: int) -> dict[str, Report]:
    """Return the last report of each arm's trial with *seed*."""
    with closing(at_home(place / ".rigorl")) as journal:
        return {
            trial.arm: journal.reports([trial.id])[trial.id][-1]
            for trial in journal.trials("pushed")
            if trial.seed == seed
        }


def test_each_arm_is_filmed_as_its_exam_was(place: Path) -> None:
    done = rigorl(place, "film", "pushed.yaml", "--json", "--episode", "1")
    assert done.returncode == 0, done.stderr
    films = json.loads(done.stdout)
    assert [(f["arm"], f["policy"]) for f in films] == [
        ("calm", "uniform"),
        ("leaner", "attack-0@1.00"),
    ]
    known = finals(place, seed=0)
    for f in films:
        (score,) = [s for s in known[f["arm"]].scores if s.policy == f["policy"]]
        assert f["earned"] == f["reported"] == score.returns[1][0]
        assert f["steps"] > 10
        with Image.open(place / f["file"]) as found:
            assert found.size == (320, 240)
            assert found.n_frames == (f["steps"] + 1) // 2  # 40 steps a second
    assert [f["force"] for f in films] == [0, pytest.approx(20)]
    assert done.stderr == ""


def test_films_are_kept_with_the_runs_of_their_trials(place: Path) -> None:
    done = rigorl(place, "film", "pushed.yaml", "--arm", "leaner", "--seed", "1", "--seconds", "1")
    assert done.returncode == 0, done.stderr
    assert "return" in done.stdout
    assert "pushed with 20 N" in done.stdout
    client = MlflowClient(f"sqlite:///{place / '.rigorl' / 'mlflow.db'}")
    (study,) = client.search_experiments(filter_string="name = 'pushed'")
    runs = client.search_runs([study.experiment_id], "tags.arm = 'leaner' and tags.seed = '1'")
    (run,) = [run for run in runs if "trial" in run.data.tags]
    (alone,) = [s for s in finals(place, seed=1)["leaner"].scores if s.policy == "nominal"]
    earned = float(np.mean([one for (one,) in alone.returns]))
    assert run.data.metrics["robust/walk/nominal"] == earned
    assert run.data.metrics["robust/walk/auc"] != earned
    (kept,) = client.list_artifacts(run.info.run_id, "films")
    assert kept.path == "films/leaner-seed1-attack-0@1.00-walk-0.gif"


def test_a_film_without_a_run_in_mlflow_is_made_all_the_same(place: Path, tmp_path: Path) -> None:
    words = ("--arm", "calm", "--seconds", "0.2", "--out", str(tmp_path / "x.gif"))
    done = rigorl(place, "film", "pushed.yaml", *words, "--mlflow", "sqlite:///other.db")
    assert done.returncode == 0, done.stderr
    assert "shows no trial" in done.stderr
    with Image.open(tmp_path / "x.gif") as found:
        assert found.n_frames == 4  # of 8 steps


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--arm", "calmer"), "--arm must be one of the spec, but 'calmer' is not; did you mean"),
        (("--seed", "3"), "--seed must be one of seeds.test, but is 3"),
        (("--episode", "3"), "they go from 0 to 2"),
        (("--policy", "attack-0@2.00"), "--policy must be one that was examined"),
        (("--task", "run"), "--task must be one of the spec"),
        (("--out", "x.gif"), "--out must be for one film, but there are 2 arms"),
        (("--out", "x.mp4", "--arm", "calm"), "--out must be a GIF"),
        (("--seconds", "0"), "--seconds must be above 0"),
        (("--set", "budget.steps=60"), "must be given the policies of trial"),
    ],
)
def test_what_is_not_there_is_not_filmed(place: Path, words: tuple[str, ...], said: str) -> None:
    done = rigorl(place, "film", "pushed.yaml", "--mlflow", "none", *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr


def test_without_an_opengl_it_says_what_to_install(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", "/none")
    done = rigorl(
        place, "film", "pushed.yaml", "--mlflow", "none", "--out", "x.gif", "--arm", "calm"
    )
    assert done.returncode == 2
    assert "an OpenGL that needs no screen, but egl gives none" in done.stderr
    assert "apt-get install libegl1" in done.stderr
    assert not (place / "x.gif").exists()


def test_ctrl_c_leaves_whole_films_only(place: Path) -> None:
    words = ("film", "pushed.yaml", "--mlflow", "none", "--home", "again")
    shutil.copytree(place / ".rigorl", place / "again", ignore=shutil.ignore_patterns("films"))
    with subprocess.Popen(
        [sys.executable, "-m", "rigorl", *words],
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert "calm" in running.stdout.readline()
        os.kill(running.pid, signal.SIGINT)  # the other one is being played
        assert running.wait(60) == 130
    (kept,) = (place / "again" / "films" / "pushed").iterdir()
    assert kept.name == "calm-seed0-uniform-walk-0.gif"


@pytest.fixture
def moment() -> Moment:
    return next(look_on(Exam(WALK, Lean(40.0, 1, 12), (0,)), 0))


def seen(moment: Moment) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    with film.opened(moment.model) as camera:
        return np.asarray(camera.picture(moment, ["one", "two"])).astype(np.int16)


def red(moment: Moment, force: list[float]) -> tuple[int, float, float]:
    """Return how many pixels are of an arrow, and how far right and down they are in the mean."""
    (body,) = moment.forces
    page = seen(moment._replace(forces={body: np.array(force)}))[: film.HEIGHT - film.STRIP]
    arrow = (page[..., 0] > 120) & (page[..., 1:].max(-1) < 70)
    down, right = np.nonzero(arrow)
    return (
        len(down),
        float(np.mean(right) if len(right) else 0),
        float(np.mean(down) if len(down) else 0),
    )


def test_an_arrow_is_as_long_as_the_force_and_stands_where_it_comes_from(moment: Moment) -> None:
    none, half, all_ = (red(moment, [newtons, 0.0, 0.0]) for newtons in (0.0, 20.0, 40.0))
    assert none[0] == 0
    assert 1.5 < all_[0] / half[0] < 3
    back, above = red(moment, [-40.0, 0.0, 0.0]), red(moment, [0.0, 0.0, -40.0])
    assert all_[1] < above[1] < back[1]  # x is to the right
    assert above[2] < all_[2]


def test_looking_changes_nothing_and_shows_the_robot_and_the_words(moment: Moment) -> None:
    before = moment.data.qpos.copy(), moment.data.qacc_warmstart.copy(), moment.data.xpos.copy()
    page = seen(moment)
    now = moment.data.qpos, moment.data.qacc_warmstart, moment.data.xpos
    for was, is_ in zip(before, now, strict=True):
        np.testing.assert_array_equal(was, is_)
    assert page.shape == (240, 320, 3)
    blue = page[..., 2] - page[..., 0]
    assert np.count_nonzero(blue[: film.HEIGHT - film.STRIP] > 60) > 200  # the torso
    assert page[-film.STRIP :].min() == 0  # ink
    np.testing.assert_array_equal(page, seen(moment))
