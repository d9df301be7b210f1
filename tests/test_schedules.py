"""Settings that change while an agent learns, on a tiny trial: interrupted, taken over, replayed."""

from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from conftest import tiny
from helpers.trials import HALF, encoded, reports, trial
from rigorl import checkpoint, plan
from rigorl.checkpoint import Folder, Place
from rigorl.lockstep import play
from rigorl.outside.in_process import Alone
from rigorl.run import Run
from rigorl.schedules import at, check, said, shorter
from rigorl.spec import AgentSpec, Budget
from rigorl.trial import Beat, Bundle, Event, Trial

SLOW, FAST = 0.01, 0.5


def changing(*changes: tuple[int, dict[str, Any]], **parts: Any) -> Trial:
    """A trial that walks slowly until it is told otherwise. All its checkpoints are switches."""
    agent = AgentSpec(name="helpers.seeker", config={"rate": SLOW}, schedule=changes)
    budget = Budget(steps=40, exam_every=10, exam_episodes=2, checkpoint_every=100)
    return trial(**{"agent": agent, "budget": budget, **parts})


def told(one: Trial, storage: Path | None = None, until: int | None = None) -> list[Event]:
    bars = {} if until is None else {until: float("inf")}
    return list(play(Bundle(trials=(one,), bars=bars), Alone(), storage))


def values(events: list[Event]) -> list[float]:
    return [round(-r.scores[0].returns[0][0], 3) for r in reports(events)]


def saved(events: list[Event]) -> list[tuple[int, int]]:
    return [(e.stage, e.step) for e in events if isinstance(e, Beat) and e.saved]


def test_what_holds_at_a_step_is_what_was_set_last() -> None:
    schedule = ((10, {"rate": 2}), (20, {}), (30, {"rate": 3, "noise": 0}))
    config = {"rate": 1, "every": 2}
    seen = [at(config, schedule, steps) for steps in (0, 9, 10, 29, 30)]
    assert [(s["rate"], s.get("noise")) for s in seen] == [
        (1, None), (1, None), (2, None), (2, None), (3, 0),
    ]  # fmt: skip
    assert config == {"rate": 1, "every": 2}
    assert shorter(schedule) == (((10, {"rate": 2}), (20, {}), (30, {})), 30)
    assert shorter(((10, {"rate": 2}), (20, {}))) == (((10, {}), (20, {})), 10)
    assert shorter(((10, {}),)) is None
    check(schedule)
    for steps in ((10, 10), (20, 10)):
        with pytest.raises(ValueError, match=f"must rise, but are {steps[0]}, {steps[1]};"):
            AgentSpec(name="x", schedule=tuple((step, {}) for step in steps))


def test_a_schedule_is_read_as_what_becomes_of_each_setting() -> None:
    schedule = [[1000, {}], [2000, {"rate": 0.12}], [3000, {"rate": 1e-5}]]
    config = {"rate": 0.1, "kind": "a", "schedule": schedule}
    assert said(config) == {
        "rate": "0.1 (0.12 from step 2,000, 1e-05 from step 3,000)",
        "kind": "a",
    }


def test_a_trial_without_a_schedule_keeps_its_name_and_one_with_it_has_another() -> None:
    plain = trial()
    assert b"schedule" in msgspec.json.encode(plain.agent)
    ids = {plain.id, *(changing(*c).id for c in ((), ((10, {}),), ((10, {"rate": 1.0}),)))}
    assert len(ids) == 4
    assert trial(agent=AgentSpec(name="helpers.seeker", schedule=())).id == plain.id
    again = msgspec.json.decode(msgspec.json.encode(changing((10, {"rate": 1.0}))), type=Trial)
    assert again == changing((10, {"rate": 1.0}))
    assert again.id == changing((10, {"rate": 1.0})).id


def test_settings_change_at_the_first_safe_yield_that_has_come_so_far() -> None:
    plain, fast = told(changing()), told(changing((15, {"rate": FAST})))
    assert saved(plain) == [(1, 0), (2, 0)]
    assert saved(fast) == [(0, 16), (1, 0), (2, 0)], "step 15 is not safe"
    assert encoded(fast)[:1] == [
        msgspec.msgpack.encode(replace(r, trial=changing((15, {"rate": FAST})).id))
        for r in reports(plain)[:1]
    ]
    assert values(fast)[1] < 0.2 < values(plain)[1]


def test_steps_of_a_schedule_count_over_all_tasks() -> None:
    events = told(changing((40, {"rate": 0.5}), (55, {"rate": 0.6})))
    assert saved(events) == [(1, 0), (1, 16), (2, 0)]
    run = Run(changing((40, {"rate": 0.5}), (55, {"rate": 0.6})), Alone())
    seen = [(e.stage, e.step, run.settings["rate"]) for e in run if isinstance(e, Beat)]
    rates = {(stage, step // 17): rate for stage, step, rate in seen if stage < 2 and step}
    assert rates == {
        (0, 0): SLOW,
        (0, 1): SLOW,
        (0, 2): SLOW,
        (1, 0): 0.5,
        (1, 1): 0.6,
        (1, 2): 0.6,
    }


@pytest.mark.parametrize("cut", [3, 17, 18, 19, 20, 27, 28, 40, 44, 45, 46, 60])
def test_interrupted_anywhere_a_schedule_comes_to_the_same(cut: int, tmp_path: Path) -> None:
    one = changing((15, {"rate": 0.1}), (25, {"noise": 0.2}), (40, {"rate": 0.05}), (50, {}))
    whole = told(one)
    first = list(islice(play(Bundle(trials=(one,)), Alone(), tmp_path), cut))
    assert encoded(first + told(one, tmp_path)) == encoded(whole)


def test_where_all_pause_a_checkpoint_is_made_and_nothing_is_learned_twice(tmp_path: Path) -> None:
    one = changing((20, {}), (30, {"rate": FAST}))
    first = told(one, tmp_path, until=1)
    assert saved(first) == [(0, 20)]
    again = told(one, tmp_path)
    assert (again[0].stage, again[0].step) == (0, 20)  # type: ignore[union-attr]
    assert encoded(first + again) == encoded(told(one))


DONOR = changing((20, {}), (40, {}), (60, {}))
HEIRS = [
    (changing((20, {"rate": FAST}), (40, {}), (60, {})), 1),
    (changing((20, {}), (40, {"rate": FAST}), (60, {})), 3),
    (changing((20, {}), (40, {}), (60, {"rate": FAST})), 5),
]


@pytest.mark.parametrize(("heir", "rung"), HEIRS)
def test_from_another_trials_checkpoint_it_comes_to_what_it_comes_to_from_scratch(
    heir: Trial, rung: int, tmp_path: Path
) -> None:
    before = told(DONOR, tmp_path, until=rung)
    alone, after = told(heir), told(heir, tmp_path)
    assert (after[0].stage, after[0].step) == divmod((rung + 1) * 10, 40)  # type: ignore[union-attr]
    assert {r.trial for r in reports(after)} == {heir.id}
    prefix = [replace(r, trial=heir.id) for r in reports(before)]
    assert encoded([*prefix, *after]) == encoded(alone)
    assert encoded(reports(after)[-2:]) != encoded(
        [replace(r, trial=heir.id) for r in reports(told(DONOR))[-2:]]
    ), "and the change is felt"


def test_it_is_not_taken_up_where_the_other_one_has_gone_on(tmp_path: Path) -> None:
    """Two checkpoints are kept: those at 60 and 80 steps are not the one at 20."""
    told(DONOR, tmp_path)
    heir, _ = HEIRS[0]
    after = told(heir, tmp_path)
    assert (after[0].stage, after[0].step) == (0, 0)  # type: ignore[union-attr]
    assert encoded(after) == encoded(told(heir))


def test_a_checkpoint_that_is_not_as_it_was_written_is_not_taken_over(tmp_path: Path) -> None:
    heir, rung = HEIRS[0]
    told(DONOR, tmp_path, until=rung)
    (file,) = tmp_path.glob(f"{DONOR.id}/*/seeker.json")
    file.write_bytes(b"[0]")
    after = told(heir, tmp_path)
    assert (after[0].stage, after[0].step) == (0, 0)  # type: ignore[union-attr]
    assert encoded(after) == encoded(told(heir))


def test_a_checkpoint_that_goes_while_it_is_copied_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    place, copied = Place(step=20, made=20), shutil.copytree

    def save(folder: Path) -> None:
        (folder / "weights").write_bytes(b"1")

    mine, theirs = Folder(tmp_path / "mine"), Folder(tmp_path / "theirs")
    checkpoint.write(theirs, place, save)

    def going(src: Path, *args: Any, **kwargs: Any) -> Any:
        (src / "weights").unlink()
        return copied(src, *args, **kwargs)

    monkeypatch.setattr(shutil, "copytree", going)
    assert not checkpoint.take_over(mine, theirs, 20, "x")
    assert checkpoint.checkpoints(mine) == []


@pytest.mark.parametrize(("step", "found"), [(15, False), (16, True), (20, True), (21, False)])
def test_a_checkpoint_is_that_of_the_steps_since_the_one_before(
    step: int, found: bool, tmp_path: Path
) -> None:
    mine, theirs = Folder(tmp_path / "mine"), Folder(tmp_path / "theirs")
    checkpoint.write(theirs, Place(step=20, before=15, made=20), lambda _: None)
    assert checkpoint.take_over(mine, theirs, step, "x") == found
    assert len(checkpoint.checkpoints(mine)) == found


def test_a_choice_may_hold_a_schedule_and_any_arm_may_have_one() -> None:
    agent = {"name": "helpers.seeker", "schedule": [[5, {"rate": 0.3}]]}
    spec = tiny(arms={"x": {"agent": agent}})
    (one,) = plan.trials(spec, "x", "test", {}, (0,))
    assert one.agent.schedule == ((5, {"rate": 0.3}),)
    assert HALF.name == "half"
