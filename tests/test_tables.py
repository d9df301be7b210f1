"""Searches on tables: the same hunt, where what it asks for is looked up."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from conftest import TINY
from rigorl import cli
from rigorl.analysis.seeds import tuned_test_gap
from rigorl.hunting import Try
from rigorl.outside import optuna_ask
from rigorl.replaying import Replay, replay
from rigorl.search import Outcome
from rigorl.searches import Prune
from rigorl.space import Choice, Integer, Real, Space
from rigorl.tables import Lookup, Table, as_search, distance, played, table, told

SPACE: Space = {"x": Real(low=0.0, high=1.0), "n": Integer(low=1, high=3)}


def table_of(values_CSR: Any, space: Space = SPACE) -> Table:
    rows, seeds, rungs = np.shape(values_CSR)
    return Table(
        study="s",
        arm="a",
        space=space,
        steps=tuple(10 * (rung + 1) for rung in range(rungs)),
        seeds=tuple(range(seeds)),
        configs=tuple({"x": row / rows, "n": 1} for row in range(rows)),
        values=tuple(tuple(map(tuple, row)) for row in np.asarray(values_CSR).tolist()),
    )


def random_table(tau: float, sigma: float, rows: int, seeds: int) -> Table:
    rng = np.random.default_rng(0)
    worth = rng.normal(0, tau, (rows, 1))
    return table_of((worth + rng.normal(0, sigma, (rows, seeds)))[:, :, None])


def test_what_is_looked_up_is_what_would_be_played() -> None:
    table = table_of([[[1, 2, 3], [3, 4, 5]], [[0, 9, 9], [0, 9, 9]]])
    whole = played(table, 0, [1, 0], Try(0, {"x": 0.0, "n": 1}, (0, 1), {}))
    assert (whole.state, whole.values, whole.by_seed) == ("finished", {0: 2, 1: 3, 2: 4}, (5, 3))
    assert whole.steps == 60
    short = played(table, 1, [0, 1], Try(1, {"x": 0.5, "n": 1}, (0, 1), {0: 1.0, 1: 99.0}))
    assert (short.state, short.values, short.steps) == ("pruned", {0: 0.0}, 20)
    assert short.curves == ({0: 0.0}, {0: 0.0})


def test_a_configuration_that_failed_fails_again_and_is_paid_for() -> None:
    table = msgspec.structs.replace(table_of([[[1.0], [1.0]]]), values=((),))
    failed = played(table, 0, [0, 1], Try(0, {}, (0, 1), {}))
    assert (failed.state, failed.steps) == ("failed", 20)


def test_an_exam_that_a_rollout_passed_is_the_next_one_in_a_table() -> None:
    outcome = Outcome({"x": 0.1, "n": 1}, "finished", {1: 2.0}, curves=({1: 2.0, 2: 3.0},))
    made = table("s", "a", SPACE, [10, 20, 30], [0], [outcome, outcome])
    assert made.values[0] == ((2.0, 2.0, 3.0),)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"seeds": [0]}, "rows? of seeds x rungs"),
        ({"values": [[[1.0]], [[1.0], []]]}, "rows? of seeds x rungs"),
        ({"steps": []}, "rows? of seeds x rungs|must rise"),
        ({"steps": [0]}, "must rise from above 0"),
        ({"configs": [{"x": 0.0, "n": 1}, {"x": "a", "n": 1}]}, r"of its space, but \[1\]"),
        ({"configs": [{"x": 0.0, "n": 1}]}, "for 1"),
    ],
)
def test_a_broken_table_is_refused(broken: Any, words: str) -> None:
    whole = msgspec.to_builtins(table_of([[[1.0], [1.0]], [[1.0], [1.0]]]))
    assert msgspec.convert(whole, Table)
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.convert({**whole, **broken}, Table)


def test_the_nearest_is_near_in_units_of_the_space() -> None:
    space: Space = {
        "lr": Real(low=1e-4, high=1e-2, log=True),
        "n": Integer(low=0, high=10),
        "kind": Choice(of=("a", "b")),
    }
    here = {"lr": 1e-3, "n": 5, "kind": "a"}
    assert distance(space, here, {**here, "lr": 1e-2}) == pytest.approx(0.5)
    assert distance(space, here, {**here, "n": 8}) == pytest.approx(0.3)
    assert distance(space, here, {**here, "kind": "b"}) == 1
    assert distance(space, here, {"n": 5, "kind": "a"}) == 1
    assert distance(space, here, {"lr": 1e-2, "n": 8, "kind": "b"}) == pytest.approx(
        (0.25 + 0.09 + 1) ** 0.5
    )


def test_tuning_and_test_seeds_of_a_replay_are_never_the_same() -> None:
    """One seed is worth 100 more to everybody: it counts in one mean or in the other."""
    table = table_of([[[100.0], [0.0], [0.0]], [[100.0], [0.0], [0.0]]])
    how = Lookup(table="t", seeds=1, candidates=2)
    for luck in range(20):
        found = told(table, how, optuna_ask.ask, np.random.SeedSequence(luck))
        assert (found.tuned, found.test) in {(100.0, 0.0), (0.0, 50.0)}


def test_the_first_candidate_is_the_arm_as_it_comes_and_no_row_is_tried_twice() -> None:
    table = random_table(1.0, 0.0, 8, 3)
    best = max(range(8), key=lambda row: table.values[row][0])
    whole = Lookup(table="t", seeds=1, candidates=8)
    found = told(table, whole, optuna_ask.ask, np.random.SeedSequence(1))
    assert found.tuned == table.values[best][0][0], "eight candidates are all of the table"
    first = told(
        table, Lookup(table="t", seeds=1, candidates=1), optuna_ask.ask, np.random.SeedSequence(1)
    )
    assert first.tuned == table.values[0][0][0]


@pytest.mark.parametrize("sampler", ["random", "grid", "tpe"])
def test_the_arm_as_it_comes_is_no_candidate_where_it_is_not_wanted(sampler: Any) -> None:
    table = table_of([[[9.0], [9.0]], [[1.0], [1.0]], [[2.0], [2.0]]])
    how = Lookup(table="t", seeds=1, candidates=2, sampler=sampler, as_it_comes=False)
    for luck in range(5):
        assert told(table, how, optuna_ask.ask, np.random.SeedSequence(luck)).tuned == 2.0
    with pytest.raises(ValueError, match="tries 3 of 2"):
        as_search(table, msgspec.structs.replace(how, candidates=3))


def test_random_search_on_a_table_falls_back_as_the_model_says() -> None:
    """The card's check, here on one table: tau 1, sigma 2, ten candidates, one seed or five."""
    table = random_table(1.0, 2.0, 400, 60)
    for seeds in (1, 5):
        how = Lookup(table="t", seeds=seeds, candidates=10, as_it_comes=False)
        what = Replay(name="r", question="?", tables={"t": ""}, searches={"s": how}, repeats=400)
        found = replay(what, {"t": table}, optuna_ask.ask).searches["s"]
        model = tuned_test_gap(1.0, 2.0, 10, seeds)
        assert found.model is not None
        assert found.gap.point == pytest.approx(model.tuned - model.test, rel=0.1)
        assert found.model.tuned - found.model.test == pytest.approx(
            model.tuned - model.test, rel=0.1
        )
        assert found.runs == 10 * seeds
        if seeds > 1:
            assert found.luck.point == pytest.approx(found.gap.point, rel=0.15)
        else:
            assert found.luck.point is None, "one seed tells nothing of luck"


def test_a_replay_is_the_same_each_time_and_pruning_costs_less() -> None:
    rng = np.random.default_rng(3)
    worth = rng.normal(0, 1, (60, 1, 1))
    table = table_of(worth + rng.normal(0, 0.3, (60, 8, 9)) + np.arange(9))
    plain = Lookup(table="t", seeds=2, candidates=30, generation=5)
    pruned = msgspec.structs.replace(plain, prune=Prune(kind="hyperband", grace=1 / 9))
    what = Replay(
        name="r",
        question="?",
        tables={"t": ""},
        searches={"plain": plain, "pruned": pruned},
        repeats=20,
    )
    once = replay(what, {"t": table}, optuna_ask.ask)
    assert once == replay(what, {"t": table}, optuna_ask.ask)
    assert once.searches["pruned"].runs < once.searches["plain"].runs / 2
    assert once.searches["plain"].model is None, "its first candidate is not drawn"
    assert once.differences.keys() == {"plain - pruned"}


def test_intervals_over_tables_know_that_another_table_would_differ() -> None:
    """Of four configurations one rules: over times the mean is certain, over tables it is not."""
    table = random_table(5.0, 0.1, 5, 8)
    how = {
        "s": Lookup(table="t", seeds=2, candidates=4),
        "all": Lookup(table="t", seeds=2, candidates=5),
    }
    what = Replay(name="r", question="?", tables={"t": ""}, searches=how, repeats=50)
    over_times = replay(what, {"t": table}, optuna_ask.ask)
    over_tables = replay(msgspec.structs.replace(what, resamples=50), {"t": table}, optuna_ask.ask)
    for name in how:
        narrow, wide = over_times.searches[name].test, over_tables.searches[name].test
        assert narrow.point == wide.point
        assert None not in (narrow.low, narrow.high, wide.low, wide.high)
        assert wide.high - wide.low > 2 * (narrow.high - narrow.low)  # type: ignore[operator]
    assert over_tables.differences["s - all"].high <= 0.5  # type: ignore[operator]


SEARCH = {
    "sampler": "random",
    "candidates": 6,
    "generation": 3,
    "space": {"rate": {"kind": "real", "low": 0.001, "high": 0.9, "log": True}},
}


def written(folder: Path, **search: Any) -> Path:
    arms = {"x": {"agent": {"name": "helpers.seeker"}, "search": {**SEARCH, **search}}}
    spec = {**TINY, "arms": arms, "seeds": {"tune": [0, 1, 2], "test": [9]}}
    file = folder / "spec.yaml"
    file.write_text(json.dumps(spec))
    return file


def test_a_table_is_played_once_and_told_on_as_often_as_one_likes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(tmp_path)]
    assert cli.main(["table", str(written(tmp_path)), *home, "--local"]) == 0
    assert "6 configurations x 3 seeds x 2 rungs" in capsys.readouterr().out
    file = tmp_path / "tiny-x.table.json"
    first = file.read_bytes()
    assert cli.main(["table", str(written(tmp_path)), *home, "--local", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"x": str(file)}
    assert file.read_bytes() == first

    searches = {
        "random": {"table": "it", "seeds": 1, "candidates": 4, "as_it_comes": False},
        "tpe": {"table": "it", "seeds": 2, "candidates": 4, "sampler": "tpe"},
    }
    how = {"name": "r", "question": "Which is better?", "tables": {"it": file.name}, "repeats": 5}
    spec = tmp_path / "replay.yaml"
    spec.write_text(json.dumps({**how, "searches": searches}))
    assert cli.main(["replay", str(spec)]) == 0
    page = capsys.readouterr().out
    assert "| random " in page
    assert "random - tpe" in page
    assert cli.main(["replay", str(spec), "--json", "--set", "repeats=3"]) == 0
    assert json.loads(capsys.readouterr().out)["repeats"] == 3


@pytest.mark.parametrize(
    ("search", "words"),
    [
        (
            {"prune": {"kind": "asha", "grace": 0.1}},
            r"every candidate to its end.*\$\.arms\.x\.search\.prune",
        ),
        ({"sampler": "tpe"}, r"must not lean .* tpe does; choose one of random, qmc, grid"),
    ],
)
def test_what_would_leave_holes_in_a_table_is_refused(
    search: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, **search)
    assert cli.main(["table", str(file), "--home", str(tmp_path / "h"), "--local"]) == 2
    assert re.search(words, capsys.readouterr().err.replace("\n", " "))
    assert not (tmp_path / "h").exists(), "nothing was begun"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prune": {"kind": "racing"}}, "at least 5 tuning seeds, but s has 1"),
        ({"prune": {"grace": 0.9}}, "must find an exam to stop at, but s has 1 exams"),
        ({"seeds": 3}, "must keep seeds to test on, but s chooses on 3 of 3"),
        ({"candidates": 99}, "must have all that a search tries, but s tries 99 of 4"),
        ({"table": "other"}, "must name one of tables, but s names 'other'; there are t"),
    ],
)
def test_what_a_table_does_not_hold_is_refused(
    change: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.json").write_bytes(msgspec.json.encode(random_table(1.0, 1.0, 4, 3)))
    search = {"table": "t", "seeds": 1, "candidates": 2, **change}
    spec = tmp_path / "replay.yaml"
    replay_of = {"name": "r", "question": "?", "tables": {"t": "t.json"}, "searches": {"s": search}}
    spec.write_text(json.dumps(replay_of))
    assert cli.main(["replay", str(spec)]) == 2
    assert words in capsys.readouterr().err
    (tmp_path / "t.json").write_text("{}")
    assert cli.main(["replay", str(spec)]) == 2
