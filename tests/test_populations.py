"""Populations: who goes on as whom, with which settings, and that nothing of it is lost or mixed up.

Several of these are faults of public code for PBT, by the card that lists them.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import tiny
from helpers.dying import Dying, Killed
from rigorl import experiment, plan, playable, populations, search
from rigorl.errors import SpecError
from rigorl.growth import differences
from rigorl.hunting import Size, Try, follow, hunt
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess, Memory
from rigorl.plan import Agenda
from rigorl.report import markdown
from rigorl.search import Outcome, Standing
from rigorl.searches import Search
from rigorl.space import Choice, Integer, Real, Space
from rigorl.spec import Experiment
from rigorl.stories import _inherit, bundle_of, outcome
from rigorl.tables import Lookup, Table, as_search
from rigorl.trial import Bundle, Event, Start, Trial

Config = Mapping[str, Any]
LR = Real(low=1e-5, high=1e-1, log=True)
SPACE: Space = {"lr": LR, "n": Integer(low=1, high=9), "kind": Choice(of=("x", "y", "z"))}
STEPS = [10, 20, 30, 40]


def how(space: Space | None = None, **changes: Any) -> Search:
    parts = {"space": space or SPACE, "candidates": 8, "sampler": "pbt", "seed": 3}
    return Search(**{**parts, **changes})


def first(search_: Search) -> list[Config]:
    return [populations.member(search_, i, [], None, STEPS) for i in range(search_.candidates)]


def then(search_: Search, told: Sequence[Outcome]) -> list[Config]:
    numbers = range(len(told), len(told) + search_.candidates)
    return [populations.member(search_, number, told, None, STEPS) for number in numbers]


def paused(configs: Sequence[Config], worths: Sequence[float | None], rung: int) -> list[Outcome]:
    return [
        Outcome(c, "failed", {}) if w is None else Outcome(c, "pruned", {rung: w})
        for c, w in zip(configs, worths, strict=True)
    ]


def values_of(config: Config) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "schedule"}


def test_the_first_ones_are_drawn_from_the_space_and_will_pause_at_each_stop() -> None:
    found = first(how())
    assert len({str(config) for config in found}) == 8
    for config in found:
        assert all(SPACE[name].takes(value) for name, value in values_of(config).items())
        assert config["schedule"] == [[10, {}], [20, {}], [30, {}]]
    assert first(how(every=2))[0]["schedule"] == [[20, {}]]
    assert values_of(found[0]) != values_of(first(how(seed=4))[0])
    named = populations.member(how(), 0, [], {"lr": 0.1, "n": 2, "kind": "x"}, STEPS)
    assert values_of(named) == {"lr": 0.1, "n": 2, "kind": "x"}


def test_the_worst_quarter_goes_on_as_one_of_the_best_and_all_others_as_they_are() -> None:
    before = first(how())
    told = paused(before, [3.0, 0.0, 7.0, 4.0, 1.0, 6.0, 5.0, 2.0], rung=0)
    after = then(how(), told)
    assert [i for i in range(8) if after[i] != before[i]] == [1, 4]
    for slot in (1, 4):
        # The donor's settings from birth on, and what is perturbed are the donor's too.
        donor = next(before[i] for i in (2, 5) if values_of(before[i]) == values_of(after[slot]))
        (step, change), *rest = after[slot]["schedule"]
        assert (step, rest) == (10, [[20, {}], [30, {}]])
        assert change
        _is_near(donor, change)


def _is_near(donor: Config, change: Config) -> None:
    """Each setting is a fifth more or less than the donor's; else it was drawn anew."""
    if "n" in change and change["n"] not in (
        math.ceil(donor["n"] * 1.2),
        math.floor(donor["n"] * 0.8),
    ):
        assert SPACE["n"].takes(change["n"])
    if "lr" in change:
        assert SPACE["lr"].takes(change["lr"])
        assert change["lr"] != donor["lr"]


def test_a_change_is_near_to_what_the_donor_was_set_to_last_and_not_to_what_it_began_with() -> None:
    """A copy of a copy: its schedule holds both changes, and numbers go on from the last ones."""
    search_ = how({"lr": LR}, candidates=4)
    start = [
        {"lr": lr, "schedule": [[10, {}], [20, {}], [30, {}]]} for lr in (1e-2, 1e-3, 1e-3, 1e-3)
    ]
    start[0]["schedule"][0][1] = {"lr": 1e-4}  # type: ignore[index]
    told = paused(start, [0.0] * 4, rung=0) + paused(start, [4.0, 3.0, 2.0, 1.0], rung=1)
    factors = set()
    for seed in range(40):
        copied = then(msgspec.structs.replace(search_, seed=seed), told)[3]
        assert copied["lr"] == 1e-2
        assert copied["schedule"][0] == [10, {"lr": 1e-4}]
        factors.add(round(copied["schedule"][1][1]["lr"] / 1e-4, 6))
    assert {1.2, 0.8} < factors, "and sometimes it is drawn anew"
    assert sum(factor not in (1.2, 0.8) for factor in factors) < 20


@given(
    st.integers(0, 2**31), st.lists(st.one_of(st.none(), st.floats(-9, 9)), min_size=8, max_size=8)
)
def test_settings_stay_in_the_space_and_no_configuration_is_changed_in_place(
    seed: int, worths: list[float | None]
) -> None:
    search_ = how(seed=seed)
    told = paused(first(search_), worths, rung=0)
    before = copy.deepcopy(told)
    after = then(search_, told)
    assert then(search_, told) == after, "the same question has the same answer"
    told += paused(after, worths[::-1], rung=1)
    again = then(search_, told)
    assert told[:8] == before
    for config in (*after, *again):
        for steps in (0, *STEPS):
            now = populations.settings(config, steps)
            assert now.keys() == SPACE.keys()
            assert all(SPACE[name].takes(value) for name, value in now.items())
        json = msgspec.json.decode(msgspec.json.encode(config))
        assert json == config, "what the journal gives back is what was proposed"


def test_choices_are_drawn_as_choices_and_numbers_as_numbers() -> None:
    search_ = how({"kind": Choice(of=("x", "y")), "lr": LR, "n": Integer(low=1, high=9)})
    told = paused(first(search_), range(8), rung=0)  # type: ignore[arg-type]
    kept = 0
    for seed in range(60):
        after = then(msgspec.structs.replace(search_, seed=seed), told)[0]
        now, was = populations.settings(after, 10), values_of(after)
        assert now["kind"] in ("x", "y")
        assert isinstance(now["n"], int)
        assert isinstance(now["lr"], float)
        kept += now["kind"] == was["kind"]
    assert 45 <= kept < 60, "a quarter are drawn anew, and half of those are others"


def test_a_whole_number_never_stays_where_it_is_by_rounding() -> None:
    rng = np.random.default_rng(0)
    over = Integer(low=1, high=100)
    assert {populations._perturbed(over, 2, rng) for _ in range(200)} > {1, 3}
    for value in (2, 3, 4, 10):
        near = {math.ceil(value * 1.2), math.floor(value * 0.8)}
        seen = [populations._perturbed(over, value, rng) for _ in range(300)]
        assert sum(new in near for new in seen) > 200
        assert seen.count(value) < 20


def test_what_was_off_as_it_came_stays_off_unless_it_is_drawn() -> None:
    rng = np.random.default_rng(0)
    seen = [populations._perturbed(LR, None, rng) for _ in range(200)]
    assert 100 < seen.count(None) < 200


def test_who_failed_goes_on_as_another_and_nobody_goes_on_as_them() -> None:
    before = first(how())
    failing: list[float | None] = [None, None, None, None, None, None, 2.0, 1.0]
    after = then(how(), paused(before, failing, rung=0))
    assert after[6:] == before[6:]
    assert all(c != b for c, b in zip(after[:6], before, strict=False))
    assert {str(values_of(c)) for c in after[:6]} <= {str(values_of(c)) for c in before[6:]}
    assert then(how(), paused(before, [None] * 8, rung=0)) == before, "there is nobody to be"


def test_the_best_is_the_largest_even_if_all_are_below_zero() -> None:
    before = first(how(candidates=4))
    after = then(how(candidates=4), paused(before, [-4.0, -1.0, -2.0, -3.0], rung=0))
    assert values_of(after[0]) == values_of(before[1])


def test_a_rollout_may_carry_a_member_past_a_stop() -> None:
    assert populations.worth(Outcome({}, "pruned", {0: 1.0, 2: 5.0, 3: 6.0}), 1) == 5.0
    assert populations.worth(Outcome({}, "finished", {}), 1) is None
    assert populations.worth(Outcome({}, "failed", {1: 1.0}), 1) is None


def test_settings_that_break_a_law_are_drawn_again() -> None:
    search_ = how(
        {"n": Integer(low=1, high=9), "m": Integer(low=1, high=9)}, constraints=("n <= m",)
    )
    told = paused(first(search_), range(8), rung=0)  # type: ignore[arg-type]
    for seed in range(30):
        for sampler in ("pbt", "pb2") if seed < 3 else ("pbt",):
            asked = msgspec.structs.replace(search_, seed=seed, sampler=sampler)
            for config in (*first(asked), *then(asked, told)):
                now = populations.settings(config, 10)
                assert now["n"] <= now["m"]


# The surrogate of Jaderberg et al. 2017, figure 2: theta climbs a model of 1.2 - |theta|^2 that
# looks at one of its two parts only. No constant choice reaches more than 0.39; a schedule does.
RUNGS, EACH = 40, 4
WAYS = {"first": (1.0, 0.0), "second": (0.0, 1.0)}


def climb(config: Config, bars: Mapping[int, float]) -> Outcome:
    theta, values = [0.9, 0.9], {}
    for rung in range(RUNGS):
        for step in range(EACH):
            now = populations.settings(config, rung * EACH + step)
            slopes = WAYS[now["way"]] if "way" in now else (now["h0"], now["h1"])
            theta = [t - 0.02 * 2 * h * t for t, h in zip(theta, slopes, strict=True)]
        values[rung] = 1.2 - theta[0] ** 2 - theta[1] ** 2
        if values[rung] < bars.get(rung, -math.inf):
            return Outcome(config, "pruned", values, steps=EACH * (rung + 1))
    return Outcome(config, "finished", values, steps=EACH * RUNGS)


def climbed(
    search_: Search, start: Sequence[Config] = (), tries: list[Try] | None = None
) -> list[Outcome]:
    steps, found = [EACH * (rung + 1) for rung in range(RUNGS)], list[Outcome]()

    def propose(number: int, told: Sequence[Outcome]) -> Config:
        given = start[number] if number < len(start) else None
        return populations.member(search_, number, told, given, steps)

    def answer(one: Try) -> Outcome:
        if tries is not None:
            tries.append(one)
        return climb(one.config, one.bars)

    follow(hunt(search_, Size(1, RUNGS), propose, found), answer)
    return found


def constant() -> float:
    return max(climb({"way": way, "schedule": []}, {}).value for way in WAYS)


def test_a_schedule_climbs_where_no_constant_choice_can() -> None:
    assert constant() < 0.4
    search_ = how({"way": Choice(of=("first", "second"))}, every=2)
    tries: list[Try] = []
    found = climbed(search_, tries=tries)
    winner = search.best(found)
    assert winner
    assert winner.value > 1.1
    # The winner's schedule is its whole past: replayed from scratch, it comes to the same.
    assert climb(winner.config, {}).value == winner.value
    assert len(found) == 8
    assert {one.number for one in tries} == set(range(8 * 20))
    assert climbed(search_) == found


def test_pb2_climbs_it_with_numbers() -> None:
    start = [{"h0": 1.0, "h1": 0.0}, {"h0": 0.0, "h1": 1.0}] * 2
    zero_one = Real(low=0, high=1)
    search_ = how({"h0": zero_one, "h1": zero_one}, sampler="pb2", candidates=4, every=5)
    assert max(o.value for o in climbed(search_, start)) > 1.1


def test_who_goes_on_as_another_comes_first_while_that_one_stands_where_it_is_needed() -> None:
    tries: list[Try] = []
    climbed(how({"way": Choice(of=("first", "second"))}, every=2), tries=tries)
    before = {one.number: one.config for one in tries}
    for i in range(8, len(tries), 8):
        stays = [one.config == before[one.number - 8] for one in tries[i : i + 8]]
        assert stays == sorted(stays)
        assert sum(stays) >= 6, "a copy may be what its donor is, where nothing was drawn anew"


def test_the_last_stop_has_no_bar_and_every_member_goes_to_the_end() -> None:
    found = climbed(how({"way": Choice(of=("first", "second"))}, every=7))
    assert {o.state for o in found} == {"finished"}
    assert {o.steps for o in found} == {EACH * RUNGS}


SEARCH = {
    "sampler": "pbt",
    "candidates": 4,
    "seed": 1,
    "space": {
        "rate": {"kind": "real", "low": 0.001, "high": 0.9, "log": True},
        "noise": {"kind": "real", "low": 0.0, "high": 0.5},
    },
}


def seeking(**changes: Any) -> Experiment:
    """A population of four on two tasks, and an arm that builds on its winner."""
    agent = {"name": "helpers.seeker", "config": {"rate": 0.02}}
    parts: dict[str, Any] = {
        "arms": {"grown": {"agent": agent, "search": {**SEARCH, **changes}}},
        "tasks": [
            {"name": "half", "env": "helpers.worlds:Target-v0", "kwargs": {"noise": 0.01}},
            {"name": "less", "env": "helpers.worlds:Target-v0", "kwargs": {"target": 0.3}},
        ],
        "budget": {"steps": 20, "exam_every": 5, "exam_episodes": 1, "checkpoint_every": 100},
        "seeds": {"tune": [10, 11], "test": [0, 1]},
    }
    return tiny(**parts)


def run(spec: Experiment, journal: Memory, storage: Path | None = None) -> Any:
    journal.begin(spec)
    return experiment.run(spec, InProcess(storage), journal, optuna_ask.ask)


def content(journal: Memory) -> dict[str, list[bytes]]:
    return {
        id_: [msgspec.msgpack.encode(told[key]) for key in sorted(told)]
        for id_, told in journal.told.items()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Memory]:
    journal = Memory()
    return run(seeking(), journal, tmp_path_factory.mktemp("whole")), journal


def test_from_scratch_and_from_checkpoints_a_search_comes_to_the_same_to_the_byte(
    whole: tuple[Any, Memory],
) -> None:
    verdict, journal = whole
    bare = Memory()
    assert run(seeking(), bare) == verdict
    assert content(bare) == content(journal)
    assert bare.asked == journal.asked


def test_what_goes_on_as_another_begins_where_that_one_stands(
    whole: tuple[Any, Memory], tmp_path: Path
) -> None:
    """Else a search would cost as many times more as it has stops."""
    spec, starts = seeking(), dict[str, list[int]]()

    class Watched(InProcess):
        def play(self, agenda: Agenda, record: Any) -> None:
            def watching(trials: Sequence[Trial], events: Sequence[Event]) -> None:
                record(trials, events)
                for event in events:
                    if isinstance(event, Start):
                        starts.setdefault(event.trial, []).append(20 * event.stage + event.step)

            super().play(agenda, watching)

    journal = Memory()
    assert experiment.run(spec, Watched(tmp_path), journal, optuna_ask.ask) == whole[0]
    tuned = [trial for trial in journal.trials.values() if trial.phase == "tune"]
    copied = [trial for trial in tuned if trial.before_last_change]
    assert len(copied) > 6
    for trial in copied:
        _, step = trial.before_last_change or (None, 0)
        assert starts[trial.id][0] == step + step % 2, "every other yield is safe"
    for begun in starts.values():
        stops_ = [begun[0] // 5 * 5 + 5 * i for i in range(len(begun))]
        assert begun == [step + step % 2 for step in stops_]


@pytest.mark.parametrize("after", [1, 13, 40, 57, 75, 120])
def test_killed_anywhere_a_population_comes_to_the_same(
    after: int, whole: tuple[Any, Memory], tmp_path: Path
) -> None:
    verdict, journal = whole
    cut = Memory()
    for _ in range(2):
        with pytest.raises(Killed):
            experiment.run(seeking(), Dying(tmp_path, after), cut, optuna_ask.ask)
    assert run(seeking(), cut, tmp_path) == verdict
    assert content(cut) == content(journal)
    assert cut.asked == journal.asked


def test_what_is_inherited_ends_where_the_change_comes_however_far_the_other_one_is(
    whole: tuple[Any, Memory],
) -> None:
    """And is what it would tell from scratch, to the byte; dense exams come with it."""
    _, journal = whole
    ended = next(
        trial
        for trial in journal.trials.values()
        if (like := trial.before_last_change) and len(journal.told.get(like[0].id, ())) == 8
    )
    like, step = ended.before_last_change or (ended, 0)
    fresh = Memory()
    told = list(journal.told[like.id].values())
    fresh.record([like], told)
    _inherit([Bundle(trials=(ended,))], fresh)
    rungs = range(math.ceil(step / 5))
    assert [report.rung for report in fresh.told[ended.id].values()] == list(rungs)
    assert content(fresh)[ended.id] == content(journal)[ended.id][: len(rungs)]
    behind = Memory()
    behind.record([like], told[: len(rungs) - 1])
    _inherit([Bundle(trials=(ended,))], behind)
    assert ended.id not in behind.told, "who has not come so far hands nothing on"


def test_the_winner_goes_to_the_exam_with_its_whole_schedule(whole: tuple[Any, Memory]) -> None:
    verdict, journal = whole
    config = verdict.arms["grown"].config
    tests = [trial for trial in journal.trials.values() if trial.phase == "test"]
    assert len(tests) == 2
    for trial in tests:
        assert [[*part] for part in trial.agent.schedule] == config["schedule"]
        assert len(journal.told[trial.id]) == 8, "and is examined from the beginning"
    assert any(change for _, change in config["schedule"])
    page = markdown(verdict)
    assert " from step " in page
    assert "schedule" not in page
    assert verdict.arms["grown"].tuning.luck is None, "its candidates are of one family"
    assert verdict.arms["grown"].tuning.steps == 4 * 2 * 2 * 20


def test_all_that_a_member_ever_was_is_in_the_journal(whole: tuple[Any, Memory]) -> None:
    _, journal = whole
    (asked,) = journal.asked.values()
    assert sorted(asked) == list(range(4 * 8))
    last = {
        t.id
        for n in range(28, 32)
        for t in plan.trials(seeking(), "grown", "tune", {"grown": asked[n]}, (10, 11))
    }
    for id_ in last:
        assert sorted(report.rung for report in journal.told[id_].values()) == list(range(8))
    assert experiment.verdict(seeking(), journal) == whole[0]


def test_a_member_is_worth_the_mean_of_its_own_seeds_and_of_no_others() -> None:
    """Value 100 * member + seed; public code took scores of other members for some."""
    spec, search_ = seeking(), seeking().arms["grown"].search
    assert search_
    spec = msgspec.structs.replace(spec, seeds=msgspec.structs.replace(spec.seeds, tune=(2, 3, 7)))
    steps = search.steps(spec.budget, len(spec.tasks))
    tries = [
        Try(i, populations.member(search_, i, [], None, steps), (0, 1, 2), {0: math.inf})
        for i in range(4)
    ]
    bundles = [bundle_of(spec, "grown", {}, one) for one in tries]
    known = {
        trial.id: Standing({0: 100.0 * member + trial.seed})
        for member, bundle in enumerate(bundles)
        for trial in bundle.trials
    }
    found = [outcome(one, bundle, known) for one, bundle in zip(tries, bundles, strict=True)]
    assert [one.values[0] for one in found] == [4.0, 104.0, 204.0, 304.0]
    assert [one.by_seed for one in found][1] == (102.0, 103.0, 107.0)


def test_an_arm_may_come_after_one_that_was_grown(tmp_path: Path) -> None:
    spec = seeking()
    arms = {
        **spec.arms,
        "next": msgspec.convert(
            {"agent": {"name": "frozen"}, "after": "grown"}, type(spec.arms["grown"])
        ),
    }
    spec = msgspec.structs.replace(spec, arms=arms)
    journal = Memory()
    assert run(spec, journal, tmp_path).arms["next"].complete
    heir = next(t for t in journal.trials.values() if t.arm == "next")
    chosen = plan.built_on(spec, heir, journal.trials)
    (asked,) = journal.asked.values()
    assert chosen["grown"] in asked.values()
    donor = journal.trials[heir.after or ""]
    assert plan.number(spec, msgspec.structs.replace(donor, phase="tune"), {}, asked) in asked


REFUSED = [
    ({"candidates": 3}, "a population must have 4 members, .* are 3; ask for more"),
    ({"prune": {"grace": 0.1}}, "must be whole, but prune would stop .*; drop prune"),
    ({"generation": 8}, "generation must be left out with pbt, but is 8"),
    ({"every": 8}, "must leave exams after the first change, but is 8 of 8 for arm 'grown'; lower"),
    ({"sampler": "tpe", "every": 2}, "every is for populations, but the sampler is tpe; drop it"),
    (
        {"space": {"kind": {"kind": "choice", "of": [1, 2]}}, "sampler": "pb2"},
        "pb2 must have numbers to choose, .*; take pbt",
    ),
    (
        {"space": {"schedule": {"kind": "choice", "of": [1, 2]}}},
        "schedule must not be a dimension of a population",
    ),
    (
        {
            "space": {
                "rate": {"kind": "real", "low": 0.1, "high": 0.2},
                "noise": {"kind": "real", "low": 0.1, "high": 0.2, "when": {"rate": 0.1}},
            }
        },
        "must all count if they change in flight, but noise counts only `when`",
    ),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_makes_no_population_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises((msgspec.ValidationError, ValueError), match=said):
        seeking(**changes)


def test_only_what_an_agent_says_can_change_in_flight_may() -> None:
    playable.check(seeking())
    stiff = {"every": {"kind": "choice", "of": [1, 2]}}
    law = r"every of helpers.seeker is not; it can change nan_at, noise, rate .*\.space\.every`"
    with pytest.raises(SpecError, match=law):
        playable.check(seeking(space=stiff))
    playable.check(seeking(space=stiff, sampler="tpe"))
    agent = {"name": "helpers.seeker", "schedule": [[5, {"rate": 0.5}], [10, {"every": 3}]]}
    with pytest.raises(SpecError, match=r"every of helpers.seeker is not.*agent\.schedule\[1\]`"):
        playable.check(tiny(arms={"x": {"agent": agent}}))
    agent["schedule"] = [[5, {"rate": 0.5}], [10, {"rate": 3.0}]]
    with pytest.raises(SpecError, match=r"rate must be at most 1, .*agent\.schedule\[1\]`"):
        playable.check(tiny(arms={"x": {"agent": agent}}))
    agent["schedule"] = [[5, {"rate": 0.5}]]
    playable.check(tiny(arms={"x": {"agent": agent}}))


def test_an_arm_with_a_schedule_of_its_own_is_not_grown() -> None:
    agent = {"name": "helpers.seeker", "schedule": [[5, {"rate": 0.3}]]}
    with pytest.raises(msgspec.ValidationError, match="must come of one hand, but arm 'x' has"):
        tiny(arms={"x": {"agent": agent, "search": SEARCH}}, seeds={"tune": [9], "test": [0]})


def test_a_table_holds_no_schedules() -> None:
    table = Table(
        study="x", arm="x", space=SPACE, steps=(1,), seeds=(0, 1), configs=({},), values=((),)
    )
    with pytest.raises(ValueError, match="a search is pbt, whose settings change in flight"):
        as_search(table, Lookup(table="x", seeds=1, candidates=1, sampler="pbt"))


def test_a_larger_population_is_another_one() -> None:
    small, large = seeking(), seeking(candidates=6)
    assert differences(small, large) == ["`$.arms.grown.search.candidates` was 4 and is 6"]
    ids = {plan.search_id(s, "grown", {}) for s in (small, large, seeking(every=2))}
    assert len(ids) == 3
    assert differences(seeking(sampler="tpe"), seeking(sampler="tpe", candidates=6)) == []


def test_a_population_for_which_no_law_can_be_kept_is_not_begun() -> None:
    spec = seeking(constraints=["rate < 0"])
    with pytest.raises(SpecError, match="must find what `constraints` allow, but pbt has found"):
        experiment.run(spec, InProcess(), Memory(), optuna_ask.ask)
