"""The front door, as a person uses it: real processes, real exit codes, real signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from helpers.commands import SPEC, changed, environment, rigorl


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SPEC)
    return tmp_path


def test_one_process_and_ray_and_a_second_run_print_the_same_verdict(place: Path) -> None:
    quiet = ("small.yaml", "--json", "--mlflow", "none")
    here = rigorl(place, "run", *quiet, "--local", "--home", "here")
    there = rigorl(place, "run", *quiet, "--home", "there")
    again = rigorl(place, "run", *quiet, "--home", "there")
    told = rigorl(place, "report", "small.yaml", "--json", "--home", "there")
    assert [r.returncode for r in (here, there, again, told)] == [0] * 4, there.stderr
    assert here.stdout == there.stdout == again.stdout == told.stdout
    verdict = json.loads(here.stdout)
    assert verdict["arms"]["tuned"]["complete"]
    found = json.loads(rigorl(place, "status", "--json", "--home", "there").stdout)
    assert found["small"]["arms"]["tuned, tune"]["finished"] == 3


def test_a_run_is_shown_in_mlflow_and_as_a_page(place: Path) -> None:
    done = rigorl(place, "run", "small.yaml", "--local")
    assert done.returncode == 0, done.stderr
    assert "rigorl ui" in done.stderr
    assert "# small" in done.stdout
    assert (place / ".rigorl" / "mlflow.db").exists()
    for shown in ("verdict.md", "report.html", "exams.csv", "figures/tuned-candidates.json"):
        assert list((place / ".rigorl" / "mlflow").rglob(shown)), shown
    page = rigorl(place, "report", "small.yaml", "--html", "page.html")
    assert page.returncode == 0, page.stderr
    assert "plotly" in (place / "page.html").read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_and_the_same_command_goes_on(
    place: Path, number: signal.Signals, code: int
) -> None:
    quiet = ("small.yaml", "--local", "--json", "--mlflow", "none", "--set", "budget.steps=1500")
    command = [sys.executable, "-m", "rigorl", "run", *quiet]
    with subprocess.Popen(
        command, cwd=place, env=environment(place), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        while not (place / ".rigorl" / "journal.db").exists():
            time.sleep(0.05)
        time.sleep(0.5)
        running.send_signal(number)
        _, said = running.communicate(timeout=60)
    assert running.returncode == code
    assert b"the same command goes on from here" in said
    assert rigorl(place, "run", *quiet).returncode == 0


def test_a_trial_that_fails_for_good_is_exit_code_1(place: Path) -> None:
    broken = "plain: {agent: {name: helpers.seeker, config: {nan_at: 5}}}"
    text = changed(SPEC, "plain: {agent: {name: helpers.seeker, config: {rate: 0.02}}}", broken)
    (place / "small.yaml").write_text(text)
    done = rigorl(place, "run", "small.yaml", "--local", "--mlflow", "none")
    assert done.returncode == 1
    assert "loss is nan at step 5" in done.stdout


def test_a_search_that_finds_nothing_is_exit_code_1(place: Path) -> None:
    text = changed(
        SPEC,
        "space: {rate: {kind: real, low: 0.01, high: 0.9, log: true}}",
        "space: {nan_at: {kind: choice, of: [3, 4]}}",
    )
    text = changed(
        text,
        "    agent: {name: helpers.seeker, config: {rate: 0.02}}\n    search",
        "    agent: {name: helpers.seeker, config: {nan_at: 3}}\n    search",
    )
    (place / "small.yaml").write_text(text)
    done = rigorl(place, "run", "small.yaml", "--local", "--mlflow", "none")
    assert done.returncode == 1, done.stderr
    assert "# small: failed" in rigorl(place, "status").stdout


def test_who_reads_no_further_stops_nothing(place: Path) -> None:
    words = ("small.yaml", "--local", "--mlflow", "none")
    gone, ours = os.pipe()
    os.close(gone)
    command = [sys.executable, "-m", "rigorl", "run", *words]
    done = subprocess.run(
        command, cwd=place, env=environment(place), stdout=ours, stderr=ours, check=False
    )
    os.close(ours)
    assert done.returncode == 0
    assert "# small: done" in rigorl(place, "status").stdout


def test_what_is_wrong_is_said_in_a_line_and_leaves_nothing(place: Path) -> None:
    (place / "bad.yaml").write_text(changed(SPEC, "rate: 0.02}}}", "rate: fast}}}"))
    before = sorted(path.name for path in place.iterdir())
    for verb in ("run", "plan", "check"):
        done = rigorl(place, verb, "bad.yaml")
        assert done.returncode == 2
        assert done.stdout == ""
        (line,) = done.stderr.strip().splitlines()
        assert "bad.yaml: this must be `float`, but is `str` 'fast'" in line
        assert "$.arms.plain.agent.config.rate" in line
    none = rigorl(place, "report", "small.yaml")
    assert none.returncode == 2
    assert "use `rigorl run` first" in none.stderr
    assert sorted(p.name for p in place.iterdir() if p.name != "user") == before


def test_the_other_verbs_answer(place: Path) -> None:
    priced = rigorl(place, "plan", "small.yaml", "--json")
    assert priced.returncode == 0, priced.stderr
    assert sum(cost["trials"] for cost in json.loads(priced.stdout)["arms"]) == 7
    known = json.loads(rigorl(place, "agents", "--json").stdout)
    assert known["ppo"]["settings"]["lr"] == 3e-4
    fine = rigorl(place, "check", "small.yaml")
    assert fine.returncode == 0
    assert "small.yaml: ok; arm 'plain' imports and runs the module helpers.seeker" in fine.stdout
    assert not (place / ".rigorl").exists()


def test_the_doctor_looks_at_everything(place: Path) -> None:
    found = json.loads(rigorl(place, "doctor", "--json").stdout)
    looked_at = {finding["what"] for finding in found}
    assert {"python", "torch", "ray sees", "disk", "journal", "mlflow store"} <= looked_at
    assert not (place / ".rigorl").exists()


def test_the_ui_serves_mlflow_on_this_machine_only(place: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (place / ".rigorl").mkdir()
    command = [sys.executable, "-m", "rigorl", "ui", "--port", str(port)]
    with subprocess.Popen(
        command, cwd=place, env=environment(place), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as server:
        try:
            for _ in range(300):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                        assert answer.status == 200
                    break
                except OSError:
                    time.sleep(0.3)
            else:
                pytest.fail("the UI did not answer")
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)
