"""The comparison that the table of crashes rests on finds what it should find."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from conftest import tiny
from rigorl import accounts, experiment
from rigorl.outside import optuna_ask, yaml_file
from rigorl.outside.in_process import InProcess
from rigorl.outside.journal import SqlJournal, export_study
from rigorl.outside.selftest import RAY, SHORT, SPEC, Bench, Case, Result, compare


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    spec = tiny()
    place = tmp_path_factory.mktemp("journal")
    with closing(SqlJournal(f"sqlite:///{place}/journal.db")) as journal:
        journal.begin(spec, experiment.codes(spec))
        experiment.run(spec, InProcess(), journal, optuna_ask.ask)
        journal.end("done")
        return list(export_study(journal, "tiny"))


def test_the_same_is_the_same(lines: list[str]) -> None:
    assert compare(lines, lines) == (0, 0, 0)


def test_what_is_lost_doubled_or_changed_is_counted_each(lines: list[str]) -> None:
    assert compare(lines, lines[:-2]) == (2, 0, 0)
    assert compare(lines, [*lines, lines[-1]]) == (0, 1, 0)
    assert compare(lines, []) == (len(lines), 0, 0)
    *others, last, end = lines
    assert compare(lines, [*others, last.replace('"loss":', '"loss":1'), end]) == (0, 0, 1)
    told = json.loads(last)
    told["report"]["step"] += 1
    assert compare(lines, [*lines, json.dumps(told)]) == (0, 1, 0)


def test_every_line_is_about_something_of_its_own(lines: list[str]) -> None:
    changed = [line.replace('"exact":true', '"exact":false') for line in lines]
    reports = sum('"report"' in line for line in lines)
    assert reports > 3
    assert compare(lines, changed) == (0, 0, reports)


def test_a_case_that_killed_nobody_is_no_success() -> None:
    assert not Result(Case("learn", 1), 0, 0, 0, 0, 1.0).ok
    assert Result(Case("learn", 1), 1, 0, 0, 0, 1.0).ok
    assert not Result(Case("learn", 1), 1, 0, 0, 1, 1.0).ok


def test_the_table_adds_up() -> None:
    results = [Result(SHORT[0], 2, 0, 1, 0, 3.0), Result(Case("learn", 1, 1, RAY), 3, 4, 0, 5, 1.0)]
    page = accounts.crashes(results)
    assert "5 faults injected: 4 lost, 1 doubled, 5 diverged" in page
    assert page.count("FAIL") == 2
    assert "| learn                 | worker |" in page


def test_the_small_study_is_one_that_can_be_played(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(SPEC)
    assert yaml_file.read(tmp_path / "study.yaml").name == "selftest"


def test_what_a_user_keeps_elsewhere_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RIGORL_STORAGE", "RIGORL_JOURNAL", "RIGORL_CRASH"):
        monkeypatch.setenv(name, "theirs")
    monkeypatch.setattr(Bench, "whole", lambda *_: [])
    bench = Bench(tmp_path, environment={"MORE": "ours"})
    assert "theirs" not in bench._environment("").values()
    environment = bench._environment("learn:1:scar")
    assert environment["RIGORL_CRASH"] == "learn:1:scar"
    assert environment["MORE"] == "ours"
