"""Studies whose trials live in a bucket, as a person plays them."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from helpers.commands import SPEC, changed, environment, rigorl
from helpers.s3 import S3, SECRET, served
from helpers.trials import encoded, trial
from rigorl.lockstep import play
from rigorl.outside import bucket
from rigorl.outside.in_process import Alone
from rigorl.outside.journal import SqlJournal
from rigorl.trial import Bundle

QUIET = ("small.yaml", "--mlflow", "none")
LOCAL = (*QUIET, "--local")
AFTER = "placebo: {after: plain, agent: {name: frozen}}\n"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with served("studies") as s3:
        yield s3


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(changed(SPEC, "tasks:\n", f"  {AFTER}tasks:\n"))
    return tmp_path


def exported(place: Path, *words: str) -> list[str]:
    told = rigorl(place, "export", "small", *words)
    assert told.returncode == 0, told.stderr
    return told.stdout.splitlines()


def begun(place: Path) -> bool:
    """Say whether a trial has begun and is not over."""
    path = place / ".rigorl" / "journal.db"
    if not path.exists():
        return False
    with closing(SqlJournal(f"sqlite:///{path}")) as journal:
        return any(state.stage and not state.finished for state in journal.states("small"))


def test_on_ray_and_in_one_process_it_is_the_study_that_lives_in_a_folder(
    place: Path, s3: S3
) -> None:
    assert rigorl(place, "run", *LOCAL, "--home", "folder").returncode == 0
    trials = sorted(path.name for path in (place / "folder" / "trials").iterdir())
    for name, words in (("local", LOCAL), ("ray", QUIET)):
        url = s3.url(f"studies/{name}")
        done = rigorl(place, "run", *words, "--home", name, "--storage", url)
        assert done.returncode == 0, done.stderr
        assert f"--storage '{url}'" in done.stderr
        assert SECRET not in done.stdout + done.stderr
        assert exported(place, "--home", name) == exported(place, "--home", "folder")
        assert not (place / name / "trials").exists()
        assert sorted({key.partition("/")[0] for key in s3.keys(f"studies/{name}")}) == trials


def test_a_study_that_was_killed_goes_on_from_the_bucket(place: Path, s3: S3) -> None:
    url = s3.url("studies/killed")
    slow = (place / "small.yaml").read_text().replace("rate: 0.02}", "rate: 0.02, pause: 0.01}")
    (place / "small.yaml").write_text(slow)
    assert rigorl(place, "run", *LOCAL, "--home", "whole").returncode == 0
    words = [sys.executable, "-m", "rigorl", "run", *LOCAL, "--storage", url]
    with subprocess.Popen(words, cwd=place, env=environment(place)) as child:
        deadline = time.monotonic() + 60
        while not begun(place):
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    again = rigorl(place, "resume", *LOCAL, "--storage", url)
    assert again.returncode == 0, again.stderr
    assert "To go on from their newest checkpoint that is whole: 1" in again.stderr
    assert exported(place) == exported(place, "--home", "whole")


@pytest.mark.parametrize("words", [LOCAL, QUIET])
def test_what_cannot_be_used_is_refused_in_a_line(
    words: tuple[str, ...], place: Path, s3: S3
) -> None:
    for url, said in (
        (s3.url("not-there/x"), "there is no such bucket"),
        ("gs://mine", "must be a folder or s3://bucket/prefix"),
    ):
        done = rigorl(place, "run", *words, "--storage", url)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_an_endpoint_that_goes_away_for_a_moment_is_waited_for(s3: S3) -> None:
    one = Bundle(trials=(trial(),))
    store = bucket.opened(s3.url("studies/patient"))
    told = []
    for event in play(one, Alone(), store):
        told.append(event)
        if len(told) in (3, 20):
            s3.go_away(1.0)
    assert encoded(told) == encoded(play(one, Alone(), None))
    assert len(store.below(one.id).names()) == 3
