"""What was spent is told, whatever came of it."""

import json
from pathlib import Path

import msgspec
import pytest

from conftest import TINY
from rigorl import cli, ledger
from rigorl.outside.journal import at_home
from rigorl.spec import Experiment

SEARCH = {
    "space": {"rate": {"kind": "real", "low": 0.001, "high": 0.9, "log": True}},
    "candidates": 4,
    "generation": 2,
    "enqueue": [{"rate": 0.3}, {"rate": 0.001}, {"rate": 0.002}],
    "prune": {"grace": 0.1},
}
ARMS = {
    "tuned": {**TINY["arms"]["seeker"], "search": SEARCH},
    "broken": {"agent": {"name": "helpers.seeker", "config": {"nan_at": 7}}},
}


def test_every_step_is_counted_once_whether_it_led_to_anything_or_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = {"steps": 20, "exam_every": 5, "exam_episodes": 1}
    spec = {**TINY, "arms": ARMS, "budget": budget, "seeds": {"tune": [7], "test": [0, 1]}}
    file = tmp_path / "spec.yaml"
    file.write_text(json.dumps(spec))
    home = ["--home", str(tmp_path)]
    assert cli.main(["run", str(file), *home, "--local", "--mlflow", "none"]) == 1
    capsys.readouterr()
    assert cli.main(["report", str(file), *home, "--ledger", "--json"]) == 0
    found = {(e["arm"], e["phase"]): e for e in json.loads(capsys.readouterr().out)}
    tune, test, broken = (
        found[key] for key in (("tuned", "tune"), ("tuned", "test"), ("broken", "test"))
    )
    assert tune["trials"] == 4
    assert tune["stopped"] > 0, "else none was pruned"
    assert tune["steps"] == sum(
        20 if state.finished else state.step
        for state in at_home(tmp_path).states("tiny")
        if state.trial.phase == "tune"
    )
    assert 20 < tune["steps"] < 80
    assert (test["finished"], test["steps"]) == (2, 40)
    assert (broken["failed"], broken["finished"]) == (2, 0)
    assert broken["steps"] > 0, "what failed was paid for"
    assert tune["learn_s"] > 0
    assert cli.main(["report", str(file), *home, "--ledger"]) == 0
    page = capsys.readouterr().out
    assert f"{sum(e['steps'] for e in found.values()):,}" in page


def test_nothing_spent_is_an_empty_ledger(spec: object) -> None:
    assert ledger.ledger(spec, []) == []  # type: ignore[arg-type]
    assert "| all " in ledger.page([])


def test_what_a_member_of_a_population_took_over_is_not_paid_twice(tmp_path: Path) -> None:
    space = {"rate": {"kind": "real", "low": 0.001, "high": 0.9, "log": True}}
    search = {"sampler": "pbt", "candidates": 4, "space": space}
    arms = {"grown": {**TINY["arms"]["seeker"], "search": search}}
    budget = {"steps": 20, "exam_every": 5, "exam_episodes": 1}
    spec = {**TINY, "arms": arms, "budget": budget, "seeds": {"tune": [7, 8], "test": [0]}}
    file = tmp_path / "spec.yaml"
    file.write_text(json.dumps(spec))
    cli.main(["run", str(file), "--home", str(tmp_path), "--local", "--mlflow", "none"])
    entries = ledger.ledger(msgspec.convert(spec, Experiment), at_home(tmp_path).states("tiny"))
    tune = next(entry for entry in entries if entry.phase == "tune")
    assert tune.trials > 8, "else nobody went on as another"
    assert 160 <= tune.steps < 180, "a step each for those who paused, and no segment twice"
