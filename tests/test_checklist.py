"""Sixteen questions of a referee, and what a study says to them."""

import pytest

from conftest import tiny
from rigorl import experiment, report
from rigorl.checklist import Item, checklist
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess, Memory
from rigorl.spec import Experiment

SOFTWARE = {"git": "0" * 40, "python": "3.11.7", "rigorl": "0.1.0", "optuna": "5.0.0"}


@pytest.fixture(scope="module")
def items(searching: Experiment) -> dict[str, Item]:
    verdict = experiment.run(searching, InProcess(), Memory(), optuna_ask.ask)
    found = checklist(searching, verdict, SOFTWARE, ["here: 17 attempts"])
    assert len(found) == 16
    return {item.asked: item for item in found}


def test_what_a_study_says(items: dict[str, Item], searching: Experiment) -> None:
    assert items["tuning seeds"].said == "2: 10, 11"
    assert items["test seeds"].said == "3: 0, 1, 2"
    assert items["package and method"].said == (
        "tuned: tpe of rigorl 0.1.0 with Optuna 5.0.0, search seed 0, generations of 2, "
        "pruned by curve: 0.5 go on"
    )
    assert items["space, with ranges"].said == "tuned: rate [0.001, 0.9] log"
    assert items["budget, the same for all"].said == "tuned: 4 candidates, 320 steps"
    assert items["what was chosen"].said.startswith("tuned: rate 0.")
    assert items["hardware"].said == "here: 17 attempts"
    asked = "all that is reported was tuned in this way"
    assert items[asked] == Item(asked, "not tuned: plain", kept=False)
    assert [item.asked for item in items.values() if not item.kept] == [asked]


def test_what_is_not_as_it_should_be_is_said() -> None:
    arms = {}
    space = {"rate": {"kind": "real", "low": 0.1, "high": 0.9}}
    wide = {"rate": {"kind": "real", "low": 0.1, "high": 1.0}}
    for name, over, candidates in (("a", space, 3), ("b", wide, 4)):
        search = {"space": over, "candidates": candidates}
        arms[name] = {"agent": {"name": "helpers.seeker"}, "search": search}
    spec = tiny(arms=arms, seeds={"tune": [5], "test": [0]})
    verdict = experiment.verdict(spec, Memory())
    found = {i.asked: i for i in checklist(spec, verdict, {"git": "abc-dirty"}, [])}
    wrong = {asked: item.said for asked, item in found.items() if not item.kept}
    assert wrong["shared settings have one space"] == "differ: rate of a and b"
    assert wrong["budget, the same for all"].endswith("; these differ")
    assert wrong["code"] == "commit abc-dirty"
    assert wrong["hardware"] == "nothing was played yet"
    assert "all results are on test seeds" in wrong
    assert found["what was chosen"].said == "a: no winner yet; b: no winner yet"
    page = report.checklist(list(found.values()))
    assert "| NO  | code " in page
