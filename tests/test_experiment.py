"""The story: idempotent, blind to test seeds while it chooses, the same on any cluster."""

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import TINY, tiny
from helpers.dying import Dying, Killed
from rigorl import experiment, plan
from rigorl.analysis.verdict import Verdict
from rigorl.errors import StorageError
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess, Memory
from rigorl.plan import Agenda
from rigorl.seeds import SeedPlan
from rigorl.spec import Experiment


def run(spec: Experiment, journal: Memory, storage: Path | None = None) -> Verdict:
    journal.begin(spec)
    return experiment.run(spec, InProcess(storage), journal, optuna_ask.ask)


@pytest.fixture(scope="module")
def searched(searching: Experiment) -> tuple[Verdict, Memory]:
    """The search, played to its end once for all who look at it."""
    journal = Memory()
    return run(searching, journal), journal


def test_an_experiment_ends_in_a_verdict(spec: Experiment) -> None:
    verdict = run(spec, Memory())
    assert verdict.arms["seeker"].complete
    assert -0.5 < verdict.arms["seeker"].score.iqm.point <= 0  # type: ignore[union-attr]


def test_what_is_done_is_not_done_again(
    searching: Experiment, searched: tuple[Verdict, Memory]
) -> None:
    first, journal = copy.deepcopy(searched)
    known = {trial: dict(told) for trial, told in journal.told.items()}

    class Idle:
        def play(self, agenda: Agenda, record: Any) -> None:
            assert agenda.over

    assert experiment.run(searching, Idle(), journal, optuna_ask.ask) == first
    assert experiment.verdict(searching, journal) == first
    assert journal.told == known


@pytest.mark.parametrize("steps", [20, 80])
def test_a_storage_of_another_journal_is_refused(steps: int, tmp_path: Path) -> None:
    """Begun or ended there, a trial would never tell this journal what it told the other."""
    budget = {"steps": steps, "exam_every": 5, "exam_episodes": 1, "checkpoint_every": 5}
    spec = tiny(budget=budget)
    first = Memory()
    if steps == 20:
        run(spec, first, tmp_path)
    else:
        with pytest.raises(Killed):
            experiment.run(spec, Dying(tmp_path, 12), first, optuna_ask.ask)
    with pytest.raises(StorageError, match=r"goes on there after \d+ exams, of which .* knows 0;"):
        run(spec, Memory(), tmp_path)
    assert run(spec, first, tmp_path) == run(spec, Memory())


def test_more_seeds_play_only_what_is_new(spec: Experiment) -> None:
    journal = Memory()
    run(spec, journal)
    before = set(journal.trials)
    more = msgspec.structs.replace(spec, seeds=SeedPlan(test=(0, 1, 2)))
    run(more, journal)
    assert {journal.trials[id_].seed for id_ in set(journal.trials) - before} == {2}


def test_more_candidates_continue_the_search(
    searching: Experiment, searched: tuple[Verdict, Memory]
) -> None:
    _, journal = copy.deepcopy(searched)
    before = set(journal.trials)
    arm = searching.arms["tuned"]
    search = msgspec.structs.replace(arm.search, candidates=6)
    arms = {**searching.arms, "tuned": msgspec.structs.replace(arm, search=search)}
    run(msgspec.structs.replace(searching, arms=arms), journal)
    new = [journal.trials[id_] for id_ in set(journal.trials) - before]
    assert len([trial for trial in new if trial.phase == "tune"]) == 4


def test_a_search_sees_only_tuning_seeds(searched: tuple[Verdict, Memory]) -> None:
    _, journal = searched
    seen = {
        phase: {t.seed for t in journal.trials.values() if t.phase == phase}
        for phase in ("tune", "test")
    }
    assert seen == {"tune": {10, 11}, "test": {0, 1, 2}}


def test_nothing_of_the_test_seeds_reaches_a_choice(
    searching: Experiment, searched: tuple[Verdict, Memory]
) -> None:
    """Whatever the test seeds are, the same candidates are tried and the same one wins."""
    journal = Memory()
    others = SeedPlan(tune=searching.seeds.tune, test=(5, 6, 7))
    verdict = run(msgspec.structs.replace(searching, seeds=others), journal)
    expected, before = searched
    assert journal.asked == before.asked
    assert verdict.arms["tuned"].config == expected.arms["tuned"].config


def test_the_winner_is_the_best_of_those_that_finished(searched: tuple[Verdict, Memory]) -> None:
    verdict, journal = searched
    (asked,) = journal.asked.values()
    assert asked[0] == {"rate": 0.02}  # the arm as it comes
    assert verdict.arms["tuned"].config in asked.values()
    assert verdict.arms["tuned"].config != asked[0]


def test_pruning_saves_steps(searching: Experiment) -> None:
    arm = searching.arms["tuned"]
    pruned, whole = Memory(), Memory()
    for journal, prune in ((pruned, arm.search.prune), (whole, None)):  # type: ignore[union-attr]
        search = msgspec.structs.replace(arm.search, prune=prune, candidates=6, seed=1)
        arms = {"tuned": msgspec.structs.replace(arm, search=search)}
        run(msgspec.structs.replace(searching, arms=arms), journal)
    assert sum(map(len, pruned.told.values())) < sum(map(len, whole.told.values()))


@pytest.mark.parametrize("after", [1, 12, 40])
def test_a_driver_that_died_changes_nothing(
    searching: Experiment, searched: tuple[Verdict, Memory], after: int, tmp_path: Path
) -> None:
    expected, whole = searched
    cut = Memory()
    with pytest.raises(Killed):
        experiment.run(searching, Dying(tmp_path, after), cut, optuna_ask.ask)
    assert run(searching, cut, tmp_path) == expected
    assert cut.told.keys() == whole.told.keys()
    assert all(
        msgspec.msgpack.encode(sorted(cut.told[t].values(), key=str))
        == msgspec.msgpack.encode(sorted(whole.told[t].values(), key=str))
        for t in whole.told
    )
    assert cut.asked == whole.asked


def test_a_trial_that_fails_is_named_and_the_others_go_on() -> None:
    nan = {"agent": {"name": "helpers.seeker", "config": {"nan_at": 7}}}
    spec = tiny(arms={**TINY["arms"], "broken": nan})
    verdict = run(spec, Memory())
    assert verdict.arms["seeker"].complete
    assert not verdict.arms["broken"].complete
    assert "loss is nan at step 7" in str(msgspec.to_builtins(verdict.arms["broken"]))


def test_a_candidate_that_fails_does_not_win(searching: Experiment) -> None:
    arm = searching.arms["tuned"]
    space = {"nan_at": {"kind": "choice", "of": [7, -1]}}
    search = {"space": space, "candidates": 4, "generation": 2, "seed": 3}
    raw = {"agent": {"name": "helpers.seeker", "config": {"nan_at": 7}}, "search": search}
    spec = msgspec.structs.replace(searching, arms={"x": msgspec.convert(raw, type(arm))})
    journal = Memory()
    verdict = run(spec, journal)
    assert {c["nan_at"] for c in next(iter(journal.asked.values())).values()} == {7, -1}
    assert verdict.arms["x"].config == {"nan_at": -1}


def test_an_arm_after_another_is_given_its_policies(tmp_path: Path) -> None:
    arms = {
        "placebo": {"after": "seeker", "agent": {"name": "frozen", "config": {"pause": 10}}},
        **TINY["arms"],
    }
    spec, journal = tiny(arms=arms), Memory()
    verdict = run(spec, journal, tmp_path)
    assert verdict.arms["placebo"].score == verdict.arms["seeker"].score
    assert experiment.verdict(spec, journal) == verdict


def test_a_search_after_another_arm_is_given_policies_of_tuning_seeds(tmp_path: Path) -> None:
    space = {"rate": {"kind": "real", "low": 0.01, "high": 0.9}}
    second = {
        "after": "seeker",
        "agent": {"name": "helpers.seeker"},
        "search": {"space": space, "candidates": 2},
    }
    journal = Memory()
    spec = tiny(arms={"second": second, **TINY["arms"]}, seeds={"tune": [9], "test": [0, 1]})
    verdict = run(spec, journal, tmp_path)
    assert verdict.arms["second"].complete
    tuned = [t for t in journal.trials.values() if t.arm == "second" and t.phase == "tune"]
    assert {journal.trials[t.after].phase for t in tuned if t.after} == {"tune"}
    assert experiment.verdict(spec, journal) == verdict


def test_two_searches_after_one_arm_share_its_tuning_trials(tmp_path: Path) -> None:
    space = {"rate": {"kind": "real", "low": 0.01, "high": 0.9}}
    search = {"space": space, "candidates": 2}
    second = {"after": "seeker", "agent": {"name": "helpers.seeker"}, "search": search}
    arms = {"second": second, "third": second, **TINY["arms"]}
    spec = tiny(arms=arms, seeds={"tune": [9], "test": [0, 1]})
    verdict = run(spec, Memory(), tmp_path)
    assert all(arm.complete for arm in verdict.arms.values())


def test_candidates_that_are_the_same_are_played_once() -> None:
    space = {"rate": {"kind": "choice", "of": [0.1, 0.2]}}
    arm = {
        "agent": {"name": "helpers.seeker"},
        "search": {"space": space, "candidates": 6, "generation": 6},
    }
    journal = Memory()
    verdict = run(tiny(arms={"x": arm}, seeds={"tune": [9], "test": [0]}), journal)
    assert verdict.arms["x"].complete
    assert len([t for t in journal.trials.values() if t.phase == "tune"]) <= 2


def test_a_verdict_in_the_middle_invents_no_failures(tmp_path: Path) -> None:
    arms = {"placebo": {"after": "seeker", "agent": {"name": "frozen"}}, **TINY["arms"]}
    assert experiment.verdict(tiny(arms=arms), Memory()).failures == ()


def test_what_builds_on_a_failure_says_so(tmp_path: Path) -> None:
    arms = {
        "broken": {"agent": {"name": "helpers.seeker", "config": {"nan_at": 7}}},
        "placebo": {"after": "broken", "agent": {"name": "frozen"}},
    }
    verdict = run(tiny(arms=arms), Memory(), tmp_path)
    assert "whose policies it needs" in str(msgspec.to_builtins(verdict.arms["placebo"]))


def test_a_search_that_builds_on_a_failure_ends_without_a_winner(tmp_path: Path) -> None:
    space = {"rate": {"kind": "real", "low": 0.01, "high": 0.9}}
    arms = {
        "broken": {"agent": {"name": "helpers.seeker", "config": {"nan_at": 7}}},
        "second": {
            "after": "broken",
            "agent": {"name": "helpers.seeker"},
            "search": {"space": space, "candidates": 4, "generation": 2},
        },
    }
    spec = tiny(arms=arms, seeds={"tune": [9], "test": [0, 1]})
    verdict = run(spec, Memory(), tmp_path)
    assert verdict.arms["second"].config is None
    assert not verdict.arms["second"].complete


def test_scales_are_measured_on_single_tasks() -> None:
    tasks = [
        {**TINY["tasks"][0], "random": "measured", "reference": "seeker"},
        {**TINY["tasks"][0], "name": "other", "kwargs": {"target": -0.5}},
    ]
    journal = Memory()
    verdict = run(tiny(tasks=tasks), journal)
    scale = [t for t in journal.trials.values() if t.phase == "scale"]
    assert {(t.agent.name, len(t.tasks)) for t in scale} == {
        ("uniform", 1),
        ("helpers.seeker", 1),
    }
    assert plan.UNIFORM in {t.arm for t in scale}
    assert verdict.arms["seeker"].complete


def test_a_verdict_before_its_time_says_what_is_missing(searching: Experiment) -> None:
    verdict = experiment.verdict(searching, Memory())
    assert not any(arm.complete for arm in verdict.arms.values())
