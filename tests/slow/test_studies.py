"""Studies that grow, fork, move and are taken up again, as a person does it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from helpers import seeker
from helpers.commands import SPEC, changed, environment, rigorl
from rigorl.outside.journal import SqlJournal

LOCAL = ("--local", "--mlflow", "none")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SPEC)
    return tmp_path


def rewrite(place: Path, old: str, new: str) -> None:
    path = place / "small.yaml"
    path.write_text(changed(path.read_text(), old, new))


def is_playing(place: Path, arm: str) -> bool:
    """Say whether a trial of *arm* has made steps and is not over."""
    path = place / ".rigorl" / "journal.db"
    if not path.exists():
        return False
    with closing(SqlJournal(f"sqlite:///{path}")) as journal:
        states = [state for state in journal.states("small") if state.trial.arm == arm]
    return any(state.step and not state.finished for state in states)


def test_a_study_grows_and_any_other_edit_is_refused_or_forked(place: Path) -> None:
    assert rigorl(place, "run", "small.yaml", *LOCAL).returncode == 0
    first = rigorl(place, "export", "small").stdout
    rewrite(place, "test: [0, 1]", "test: [0, 1, 2]")
    assert rigorl(place, "run", "small.yaml", *LOCAL).returncode == 0
    grown = rigorl(place, "export", "small.yaml").stdout
    assert set(first.splitlines()[2:-1]) < set(grown.splitlines())
    rewrite(place, "exam_episodes: 2", "exam_episodes: 3")
    refused = rigorl(place, "run", "small.yaml", *LOCAL)
    assert refused.returncode == 2
    assert "`$.budget.exam_episodes` was 2 and is 3" in refused.stderr
    assert rigorl(place, "export", "small").stdout == grown
    forked = rigorl(place, "run", "small.yaml", *LOCAL, "--fork")
    assert forked.returncode == 0, forked.stderr
    assert "this runs as 'small-2'" in forked.stderr
    again = rigorl(place, "run", "small.yaml", *LOCAL, "--fork")
    assert again.stdout == forked.stdout
    assert "# small: done" in rigorl(place, "status").stdout
    assert rigorl(place, "export", "small").stdout == grown
    found = rigorl(place, "report", "small.yaml", "--set", "name=small-2")
    assert found.stdout == forked.stdout


def test_trials_of_other_code_are_kept_only_if_a_person_says_so(place: Path) -> None:
    source = Path(seeker.__file__).read_text()
    (place / "mine").mkdir()
    (place / "mine" / "__init__.py").touch()
    (place / "mine" / "agent.py").write_text(source)
    rewrite(place, "plain: {agent: {name: helpers.seeker", "plain: {agent: {name: mine.agent")
    assert rigorl(place, "run", "small.yaml", *LOCAL).returncode == 0
    (place / "mine" / "agent.py").write_text(f"# A comment changes nothing.\n{source}")
    assert rigorl(place, "run", "small.yaml", *LOCAL).returncode == 0
    (place / "mine" / "agent.py").write_text(
        changed(source, "self.at, self.updates = 0.0", "self.at, self.updates = 0.1")
    )
    refused = rigorl(place, "run", "small.yaml", *LOCAL)
    assert refused.returncode == 2
    assert "2 of mine.agent were made by other code; --accept-code keeps them" in refused.stderr
    assert rigorl(place, "run", "small.yaml", *LOCAL, "--accept-code").returncode == 0
    assert rigorl(place, "run", "small.yaml", *LOCAL).returncode == 0
    forked = rigorl(place, "run", "small.yaml", *LOCAL, "--fork")
    assert "this runs as" not in forked.stderr, "what was accepted needs no fork"


def test_it_is_carried_to_another_machine_and_plays_nothing_there(place: Path) -> None:
    done = rigorl(place, "run", "small.yaml", *LOCAL)
    assert rigorl(place, "export", "small.yaml", "-o", "study.txt").returncode == 0
    there = ("--home", "there")
    assert rigorl(place, "import", "study.txt", *there).stdout == "small: imported\n"
    again = rigorl(place, "resume", "small.yaml", *LOCAL, *there)
    assert again.stdout == done.stdout
    assert "Kept as they are: 7 finished trials" in again.stderr
    assert rigorl(place, "import", "small.yaml", *there).returncode == 2
    unknown = rigorl(place, "export", "smell")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "known are: small" in unknown.stderr


def test_a_journal_elsewhere_and_one_that_is_nowhere(place: Path) -> None:
    url = ("--journal", f"sqlite:///{place}/elsewhere.db")
    assert rigorl(place, "run", "small.yaml", *LOCAL, *url).returncode == 0
    assert "# small: done" in rigorl(place, "status", *url).stdout
    assert not (place / ".rigorl" / "journal.db").exists()
    for wrong in ("nonsense", "mysql://me@there/x", f"sqlite:///{place}/no/such/place.db"):
        refused = rigorl(place, "run", "small.yaml", *LOCAL, "--journal", wrong)
        assert refused.returncode == 2, refused.stderr
        assert "the journal must be" in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_home_that_may_only_be_read_can_be_read(place: Path) -> None:
    home = place / ".rigorl"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(home)], check=True)
    try:
        done = rigorl(place, "run", "small.yaml", *LOCAL)
        subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        told = rigorl(place, "report", "small.yaml")
        assert (told.returncode, told.stdout) == (0, done.stdout), told.stderr
        refused = rigorl(place, "run", "small.yaml", *LOCAL)
        assert refused.returncode == 2, refused.stderr
        assert "may only be read here" in refused.stderr
    finally:
        subprocess.run(["umount", str(home)], check=True)


@pytest.mark.parametrize(
    ("number", "where"), [(signal.SIGINT, ("--local",)), (signal.SIGINT, ()), (signal.SIGTERM, ())]
)
def test_a_stop_keeps_the_next_checkpoint_and_resume_says_so(
    place: Path, number: signal.Signals, where: tuple[str, ...]
) -> None:
    pause = "{agent: {name: helpers.seeker, config: {rate: 0.02, pause: 0.05}}}"
    rewrite(
        place, "plain: {agent: {name: helpers.seeker, config: {rate: 0.02}}}", f"plain: {pause}"
    )
    rewrite(place, "exam_episodes: 2", "exam_episodes: 2, checkpoint_every: 10")
    words = ("small.yaml", "--mlflow", "none", *where)
    command = [sys.executable, "-m", "rigorl", "run", *words]
    with subprocess.Popen(
        command, cwd=place, env=environment(place), stderr=subprocess.PIPE, start_new_session=True
    ) as running:
        while not is_playing(place, "plain"):
            assert running.poll() is None
            time.sleep(0.1)
        if number == signal.SIGINT:  # as a terminal does: Ray's processes hear it too
            os.killpg(running.pid, number)
        else:
            running.send_signal(number)
        start = time.monotonic()
        _, said = running.communicate(timeout=90)
    assert running.returncode == 128 + number, said.decode()
    assert time.monotonic() - start < 17, "it did not stop at a checkpoint"
    assert b"stopping at the next checkpoint" in said
    assert "# small: stopped; the same command goes on" in rigorl(place, "status").stdout
    again = rigorl(place, "resume", *words)
    assert again.returncode == 0, again.stderr
    assert "To go on from their newest checkpoint that is whole: " in again.stderr
    undisturbed = rigorl(place, "run", "small.yaml", *LOCAL, "--home", "undisturbed")
    assert again.stdout == undisturbed.stdout


def test_who_asks_why_hears_of_a_dead_driver_and_what_to_type(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setenv("RIGORL_CRASH", f"learn:9:{place / 'scar'}")
        assert rigorl(place, "run", "small.yaml", *LOCAL).returncode == -signal.SIGKILL
    said = rigorl(place, "status", "small.yaml", "--why").stdout
    assert re.search(
        r"Why small is where it is:\n\nits driver, process \d+ on \S+, died; "
        r"type `rigorl run small.yaml`, as before, and it goes on\n",
        said,
    ), said
    found = json.loads(rigorl(place, "status", "--why", "--json").stdout)["small"]["why"]
    assert "rigorl run SPEC" in found["driver"]
    assert {trial["now"] for trial in found["trials"]} == {"stopped", "waits"}
    assert rigorl(place, "run", "small.yaml", *LOCAL).returncode == 0
    said = rigorl(place, "status", "small.yaml", "--why").stdout
    assert "it is done\n\nnothing waits, and nothing was in trouble\n" in said
