"""The table of a study: each exam of each candidate once, as it was played."""

from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest

from conftest import tiny
from rigorl import experiment, search
from rigorl.outside import optuna_ask
from rigorl.outside.frames import frame
from rigorl.outside.in_process import InProcess, Memory
from rigorl.spec import Experiment
from rigorl.stories import told
from rigorl.trial import Report

SPACE = {
    "rate": {"kind": "real", "low": 0.001, "high": 0.9, "log": True},
    "every": {"kind": "integer", "low": 1, "high": 3},
    "noise": {"kind": "choice", "of": [0.01, 0.1], "when": {"every": 2}},
}
SEARCH = {"space": SPACE, "candidates": 6, "generation": 2, "seed": 1, "repeats": 2}
SLOW = {"name": "helpers.seeker", "config": {"rate": 0.02}}


def study(**changes: Any) -> Experiment:
    arms = {
        "plain": {"agent": SLOW},
        "tuned": {"agent": SLOW, "search": {**SEARCH, "prune": {"grace": 0.1}, **changes}},
    }
    tasks = [{"name": name, "env": "helpers.worlds:Target-v0"} for name in ("one", "two")]
    budget = {"steps": 20, "exam_every": 5, "exam_episodes": 1}
    seeds = {"tune": [10, 11], "test": [0, 1, 2]}
    return tiny(arms=arms, tasks=tasks, budget=budget, seeds=seeds)


@pytest.fixture(scope="module")
def journal() -> Memory:
    kept = Memory()
    experiment.run(study(), InProcess(), kept, optuna_ask.ask)
    return kept


@pytest.fixture(scope="module")
def exams(journal: Memory) -> pd.DataFrame:
    return frame(journal, study())


def test_every_exam_of_every_candidate_is_a_row_with_its_value(
    journal: Memory, exams: pd.DataFrame
) -> None:
    spec = study()
    for repeat, outcomes in enumerate(told(spec, journal).hunts["tuned"]):
        mine = exams[(exams["search"] == repeat) & (exams["phase"] == "tune")]
        assert sorted(set(mine["candidate"])) == list(range(6))
        for number, outcome in enumerate(outcomes):
            rows = mine[mine["candidate"] == number]
            assert set(rows["state"]) == {outcome.state}
            for seed, curve in zip((10, 11), outcome.curves, strict=True):
                of_seed = rows[rows["seed"] == seed]
                assert list(of_seed["value"]) == list(curve.values())
                places = [(rung // 4, rung % 4 * 5 + 5) for rung in curve]
                assert list(zip(of_seed["stage"], of_seed["step"], strict=True)) == places
    assert {"finished", "pruned"} <= set(exams["state"].dropna())


def test_configurations_have_columns_and_what_does_not_count_is_absent(
    exams: pd.DataFrame,
) -> None:
    assert [c for c in exams.columns if c.startswith("config.")] == [
        "config.rate",
        "config.every",
        "config.noise",
    ]
    searched = exams[exams["candidate"].notna()]
    assert set(searched["config.every"]) <= {1, 2, 3}
    assert (searched["config.noise"].notna() == (searched["config.every"] == 2)).all()
    first = searched[searched["candidate"] == 0]
    assert set(first["config.rate"]) == {0.02}
    assert exams[exams["arm"] == "plain"]["config.rate"].isna().all()


def test_only_winners_are_tested_and_each_search_has_one(
    journal: Memory, exams: pd.DataFrame
) -> None:
    tests = exams[(exams["phase"] == "test") & (exams["arm"] == "tuned")]
    for repeat, outcomes in enumerate(told(study(), journal).hunts["tuned"]):
        mine = tests[tests["search"] == repeat]
        winner = outcomes.index(search.best(outcomes))  # type: ignore[arg-type]
        assert set(mine["candidate"]) == {winner}
        assert mine["winner"].all()
        assert sorted(set(mine["seed"])) == [0, 1, 2]
        assert len(mine) == 3 * 8


def test_arms_that_do_not_search_have_no_candidates(exams: pd.DataFrame) -> None:
    plain = exams[exams["arm"] == "plain"]
    assert len(plain) == 3 * 8
    assert plain[["search", "candidate", "state"]].isna().all().all()
    assert not plain["winner"].any()


def test_a_trial_that_two_searches_share_is_in_both(exams: pd.DataFrame) -> None:
    firsts = exams[(exams["candidate"] == 0) & (exams["phase"] == "tune")]
    assert set(firsts["search"]) == {0, 1}
    zero, one = (
        firsts[firsts["search"] == n].drop(columns=["search", "winner"]).reset_index(drop=True)
        for n in (0, 1)
    )
    pd.testing.assert_frame_equal(zero, one)


class Until(InProcess):
    """A cluster that goes away after so many reports."""

    left = 45

    def play(self, agenda: Any, record: Any) -> None:
        def counted(trials: Any, events: Any) -> None:
            record(trials, events)
            self.left -= sum(isinstance(event, Report) for event in events)
            if self.left <= 0:
                raise KeyboardInterrupt

        super().play(agenda, counted)


def test_what_is_under_way_is_open_and_nobody_won_yet() -> None:
    kept = Memory()
    with pytest.raises(KeyboardInterrupt):
        experiment.run(study(), Until(), kept, optuna_ask.ask)
    seen = frame(kept, study())
    assert "open" in set(seen["state"])
    assert not seen["winner"].any()


def test_a_study_of_which_nothing_was_played_is_an_empty_table_with_all_columns() -> None:
    empty = frame(Memory(), study())
    assert len(empty) == 0
    assert {"candidate", "seed", "stage", "step", "value", "phase", "config.rate"} <= set(empty)


def test_an_arm_that_builds_on_a_winner_is_found(tmp_path: Path) -> None:
    arm = {"agent": SLOW, "search": {**SEARCH, "repeats": 1, "candidates": 2}}
    spec = msgspec.structs.replace(
        study(),
        arms=tiny(
            arms={"first": arm, "then": {**arm, "after": "first"}},
            seeds={"tune": [10, 11], "test": [0]},
        ).arms,
    )
    kept = Memory()
    experiment.run(spec, InProcess(tmp_path), kept, optuna_ask.ask)
    seen = frame(kept, spec)
    then = seen[(seen["arm"] == "then") & (seen["phase"] == "tune")]
    assert set(then["candidate"]) == {0, 1}
    assert len(seen[(seen["arm"] == "then") & (seen["phase"] == "test")]) == 3 * 8
