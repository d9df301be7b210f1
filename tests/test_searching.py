"""Searches that are played: each way to prune, several searches, and deaths in the middle."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import tiny
from helpers.dying import Dying, Killed
from rigorl import experiment
from rigorl.analysis.verdict import Verdict
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess, Memory
from rigorl.plan import Agenda
from rigorl.search import Standing
from rigorl.spec import Experiment
from rigorl.stories import Found, searches
from rigorl.trial import Event, Failure, Report, Trial

WAYS = {
    "curve": {"kind": "curve", "grace": 0.1},
    "asha": {"kind": "asha", "grace": 0.1, "eta": 2},
    "hyperband": {"kind": "hyperband", "grace": 0.2, "eta": 2},
    "racing": {"kind": "racing"},
    "both": {"kind": "both", "grace": 0.1},
}


def spec_of(prune: Any, **search: Any) -> Experiment:
    space = {"rate": {"kind": "real", "low": 0.001, "high": 0.9, "log": True}}
    how = {"space": space, "candidates": 10, "generation": 4, "prune": prune, **search}
    agent = {"name": "helpers.seeker", "config": {"rate": 0.02}}
    noisy = {"env": "helpers.worlds:Target-v0", "kwargs": {"noise": 0.01}}
    return tiny(
        arms={"tuned": {"agent": agent, "search": how}},
        tasks=[{"name": "half", **noisy}],
        budget={"steps": 25, "exam_every": 5, "exam_episodes": 1, "checkpoint_every": 10},
        seeds={"tune": [10, 11, 12, 13, 14], "test": [0, 1]},
    )


def run(spec: Experiment, journal: Memory, storage: Path | None = None) -> Verdict:
    journal.begin(spec)
    return experiment.run(spec, InProcess(storage), journal, optuna_ask.ask)


def encoded(journal: Memory) -> dict[str, bytes]:
    return {
        trial: msgspec.msgpack.encode([told[key] for key in sorted(told)])
        for trial, told in journal.told.items()
    }


@pytest.mark.parametrize("way", WAYS)
def test_whoever_dies_whenever_the_search_goes_the_same_way(way: str, tmp_path: Path) -> None:
    spec, whole = spec_of(WAYS[way]), Memory()
    expected = run(spec, whole)
    assert expected.arms["tuned"].tuning is not None
    assert expected.arms["tuned"].tuning.pruned, "else this way to prune was not seen"
    assert expected.arms["tuned"].tuning.saved
    for n, after in enumerate((25, 90)):
        cut = Memory()
        with pytest.raises(Killed):
            experiment.run(spec, Dying(tmp_path / str(n), after), cut, optuna_ask.ask)
        assert run(spec, cut, tmp_path / str(n)) == expected
        assert encoded(cut) == encoded(whole)
        assert cut.asked == whole.asked


def test_who_fails_after_it_was_let_on_was_let_on_all_the_same(tmp_path: Path) -> None:
    spec = spec_of(WAYS["hyperband"])
    raw = msgspec.to_builtins(spec)
    raw["arms"]["tuned"]["search"]["space"]["nan_at"] = {"kind": "choice", "of": [-1, 17]}
    raw["arms"]["tuned"]["agent"]["config"]["nan_at"] = -1
    raw["arms"]["tuned"]["search"]["enqueue"] = [{"rate": 0.3, "nan_at": 17}]
    spec, whole = msgspec.convert(raw, Experiment), Memory()
    expected = run(spec, whole)
    assert expected.arms["tuned"].tuning is not None
    assert expected.arms["tuned"].tuning.failed, "else nobody failed on the way"

    class DyingOfIt(Memory):
        def record(self, trials: Sequence[Trial], events: Sequence[Event]) -> None:
            super().record(trials, events)
            if any(isinstance(event, Failure) for event in events):
                raise Killed

    cut = DyingOfIt()
    with pytest.raises(Killed):
        experiment.run(spec, InProcess(tmp_path), cut, optuna_ask.ask)
    again = Memory()
    again.__dict__.update(cut.__dict__)
    assert run(spec, again, tmp_path) == expected
    assert encoded(again) == encoded(whole)


def test_hyperband_goes_on_from_where_a_candidate_stood(tmp_path: Path) -> None:
    """What was played up to a stop is kept, but for the steps since the last checkpoint."""

    class Counting(InProcess):
        told = 0

        def play(self, agenda: Agenda, record: Any) -> None:
            def counting(trials: Sequence[Trial], events: Sequence[Event]) -> None:
                self.told += sum(isinstance(event, Report) for event in events)
                record(trials, events)

            super().play(agenda, counting)

    spec, journal, cluster = spec_of(WAYS["hyperband"]), Memory(), Counting(tmp_path)
    experiment.run(spec, cluster, journal, optuna_ask.ask)
    known = sum(map(len, journal.told.values()))
    assert known <= cluster.told < 1.5 * known


def test_several_searches_are_several_and_each_goes_to_the_exam() -> None:
    journal = Memory()
    verdict = run(spec_of(None, repeats=3, candidates=4), journal)
    assert len(journal.asked) == 3
    assert len({str(asked) for asked in journal.asked.values()}) == 3
    firsts = {str(asked[0]) for asked in journal.asked.values()}
    assert firsts == {"{'rate': 0.02}"}, "the arm as it comes is played once for all"
    arm = verdict.arms["tuned"]
    assert arm.repeats is not None
    assert arm.tuning is not None
    assert arm.repeats.searches == len(arm.repeats.tests) == 3
    assert arm.tuning.test is not None
    assert arm.repeats.tests[0] == pytest.approx(arm.tuning.test.point)
    tests = [test for test in arm.repeats.tests if test is not None]
    assert arm.repeats.test is not None
    assert arm.repeats.test.point == pytest.approx(sum(tests) / 3)


def test_more_repeats_of_a_search_continue_the_study() -> None:
    journal = Memory()
    run(spec_of(None, candidates=3), journal)
    before = set(journal.trials)
    verdict = run(spec_of(None, candidates=3, repeats=2), journal)
    assert verdict.arms["tuned"].repeats is not None
    new = [journal.trials[id_] for id_ in set(journal.trials) - before]
    assert 0 < len([trial for trial in new if trial.phase == "tune"]) <= 10


class Blind(Mapping[str, Standing]):
    """Standings in which nobody may look up a trial on test seeds."""

    def __init__(self, journal: Memory, known: Mapping[str, Standing]) -> None:
        self.journal, self.known = journal, known

    def __getitem__(self, id_: str) -> Standing:
        assert self.journal.trials[id_].phase == "tune", "a choice looked at a test seed"
        return self.known[id_]

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("a choice looked at all trials")

    def __len__(self) -> int:
        raise AssertionError("a choice counted all trials")


class Blinding(Memory):
    """The journal of another, with blind standings, and test reports that are not there."""

    def __init__(self, whole: Memory) -> None:
        super().__init__()
        self.__dict__.update(whole.__dict__)

    def standings(self, study: str) -> Mapping[str, Standing]:
        return Blind(self, super().standings(study))

    def reports(self, trials: Collection[str]) -> Mapping[str, Sequence[Report]]:
        raise AssertionError("a choice read reports")


@pytest.mark.parametrize("way", [*WAYS, None])
def test_every_path_from_a_test_seed_to_a_choice_is_closed(way: str | None) -> None:
    """Told again over a journal that holds the exams, a search never looks at one of them."""
    spec, journal = spec_of(WAYS.get(way or ""), repeats=2), Memory()
    run(spec, journal)
    assert any(trial.phase == "test" for trial in journal.trials.values())
    found = Found()
    for story in searches(spec, found, Blinding(journal), optuna_ask.ask):
        assert not any(story.waves), "all was played"
    assert len(found.hunts["tuned"][0]) == 10


def test_whatever_was_earned_on_test_seeds_the_same_one_is_chosen() -> None:
    spec, journal = spec_of(WAYS["curve"]), Memory()
    chosen = run(spec, journal).arms["tuned"].config
    for trial, told in journal.told.items():
        if journal.trials[trial].phase == "test":
            for key, report in told.items():
                scores = [msgspec.structs.replace(s, returns=((-1e9,),)) for s in report.scores]
                told[key] = msgspec.structs.replace(report, scores=tuple(scores))
    after = run(spec, journal).arms["tuned"]
    assert after.config == chosen
    assert after.score is not None
    assert after.score.mean.point == -1e9, "else this test shows nothing"


@pytest.mark.parametrize("way", WAYS)
def test_a_search_that_is_over_is_told_again_to_the_byte(way: str) -> None:
    """Candidates that are the same share their trials: one may be let further than the other."""
    raw = msgspec.to_builtins(spec_of(WAYS[way]))
    how = raw["arms"]["tuned"]["search"]
    how["space"] = {"rate": {"kind": "choice", "of": [0.001, 0.02, 0.1, 0.3, 0.9]}}
    how["candidates"] = 16
    for seed in range(3):
        how["seed"] = seed
        spec, journal = msgspec.convert(raw, Experiment), Memory()
        first = run(spec, journal)
        known = {trial: dict(told) for trial, told in journal.told.items()}
        assert run(spec, journal) == first
        assert experiment.verdict(spec, journal) == first
        assert journal.told == known


def test_hyperband_stops_who_passes_a_stop_at_the_next_exam_it_takes() -> None:
    spec = tiny(
        arms={
            "ppo": {
                "agent": {"name": "ppo", "config": {"n_steps": 64, "epochs": 1, "hidden": [4]}},
                "search": {
                    "candidates": 4,
                    "sampler": "random",
                    "prune": {"kind": "hyperband", "grace": 0.1, "eta": 2},
                    "space": {"lr": {"kind": "real", "low": 1e-5, "high": 1e-2, "log": True}},
                },
            }
        },
        tasks=[{"name": "pole", "env": "CartPole-v1"}],
        budget={"steps": 320, "exam_every": 32, "exam_episodes": 1, "num_envs": 1},
        seeds={"tune": [1], "test": [0]},
    )
    tuned = run(spec, Memory()).arms["ppo"].tuning
    assert tuned is not None
    assert tuned.pruned == 3
    assert tuned.luck is None, "the scores of survivors say too little of luck"
