"""Which trials belong together, which candidate they are, and who was pruned; from the journal."""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import tiny
from rigorl import experiment
from rigorl.outside import optuna_ask
from rigorl.outside.groups import Groups
from rigorl.outside.in_process import InProcess
from rigorl.outside.journal import SqlJournal, at_home
from rigorl.outside.provenance import ROOT, provenance
from rigorl.spec import Experiment

SPACE = {"rate": {"kind": "real", "low": 0.001, "high": 0.9, "log": True}}
SEARCH = {"space": SPACE, "candidates": 6, "generation": 2, "seed": 1, "prune": {"grace": 0.1}}
AGENT = {"name": "helpers.seeker", "config": {"rate": 0.02}}


def building(**changes: Any) -> Experiment:
    """An arm that searches, and another one that searches with the policies of the first."""
    arms = {
        "first": {"agent": AGENT, "search": SEARCH},
        "then": {"agent": AGENT, "search": SEARCH, "after": "first"},
    }
    budget = {"steps": 20, "exam_every": 5, "exam_episodes": 1}
    parts = {"arms": arms, "seeds": {"tune": [10, 11], "test": [0]}, "budget": budget}
    return tiny(**{**parts, **changes})


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlJournal]:
    """A journal in which the two searches were played, and some candidates pruned."""
    place = tmp_path_factory.mktemp("home")
    with closing(at_home(place)) as kept:
        experiment.run(building(), InProcess(place / "trials"), kept, optuna_ask.ask)
        yield kept


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[SqlJournal]:
    with closing(at_home(tmp_path / "home")) as kept:
        yield kept


def played(spec: Experiment, journal: SqlJournal, tmp_path: Path) -> Groups:
    experiment.run(spec, InProcess(tmp_path / "trials"), journal, optuna_ask.ask)
    groups = Groups(journal, spec)
    groups.meet(journal.newest(spec.name))
    return groups


@pytest.fixture
def groups(journal: SqlJournal) -> Groups:
    found = Groups(journal, building())
    found.meet(journal.newest("tiny"))
    return found


def test_candidates_are_numbered_as_they_were_proposed(groups: Groups) -> None:
    expected = {f"{arm} candidate {n}" for arm in ("first", "then") for n in range(6)}
    assert set(map(groups.name, groups.members)) == {*expected, "first test", "then test"}
    for group, members in groups.members.items():
        seeds = [groups.trials[trial].seed for trial in members]
        assert sorted(seeds) == ([10, 11] if groups.one(group).phase == "tune" else [0])
        assert groups.planned(group) == len(seeds)
        assert len({msgspec.json.encode(groups.trials[trial].agent) for trial in members}) == 1


def test_who_was_pruned_is_who_did_not_finish(journal: SqlJournal, groups: Groups) -> None:
    left = {t for t, (_, _, finished) in journal.newest("tiny").items() if not finished}
    assert left
    assert groups.pruned(left) == left
    assert groups.pruned([]) == set()


def test_members_of_a_population_are_known_by_what_they_first_were(
    fresh: SqlJournal, tmp_path: Path
) -> None:
    """Who went on as another is given up as what it was."""
    search = {"space": SPACE, "candidates": 4, "sampler": "pbt"}
    spec = building(arms={"grown": {"agent": AGENT, "search": search}})
    groups = played(spec, fresh, tmp_path)
    numbers = sorted(n for g in groups.members if (n := groups.number(g)) is not None)
    assert numbers[:4] == [0, 1, 2, 3]
    assert len(numbers) > 4
    assert max(numbers) < 16
    left = {t for t, (_, _, finished) in fresh.newest("tiny").items() if not finished}
    assert left
    assert groups.pruned(left) == left
    tuned = [t for t in groups.trials.values() if t.phase == "tune"]
    assert len(tuned) - len(left) == 4 * 2


def test_candidates_of_an_older_spec_have_no_number(journal: SqlJournal) -> None:
    budget = {"steps": 30, "exam_every": 10, "exam_episodes": 2}
    groups = Groups(journal, building(budget=budget))
    groups.meet(journal.newest("tiny"))
    assert {groups.number(group) for group in groups.members} == {None}
    assert len(groups.members) == 6 + 6 + 2


def test_the_newest_rows_are_those_after_a_row(fresh: SqlJournal, tmp_path: Path) -> None:
    groups = played(tiny(), fresh, tmp_path)
    first, second = groups.trials  # in the order in which they were played
    rows = fresh.rows(groups.trials)
    assert [row.report.trial for row in rows] == [first, first, second, second]
    seqs = [row.seq for row in rows]
    assert fresh.newest("tiny") == {
        first: (seqs[1], rows[1].at, True),
        second: (seqs[3], rows[3].at, True),
    }
    assert fresh.newest("tiny", seqs[2]).keys() == {second}
    assert fresh.newest("tiny", seqs[3]) == fresh.newest("other") == {}


def test_failures_are_told_by_study(fresh: SqlJournal, tmp_path: Path) -> None:
    spec = tiny(arms={"bad": {"agent": {"name": "helpers.seeker", "config": {"nan_at": 5}}}})
    groups = played(spec, fresh, tmp_path)
    assert groups.members == {}, "nothing was reported"
    failed = fresh.failed("tiny")
    assert [failure.lasting for failure in failed.values()] == [True, True]
    assert fresh.failed("other") == {}
    groups.meet(failed)
    assert [sorted(ones) for ones in groups.members.values()] == [sorted(failed)]


def test_provenance_is_the_commit_and_the_lock_file() -> None:
    lock = hashlib.sha256((ROOT / ".ci" / "constraints.txt").read_bytes()).hexdigest()
    assert provenance()["lock"] == lock[:16]
    assert len(provenance()["git"].removesuffix("-dirty")) == 40
