"""What an alarm does to its trial is the same whoever examines, and wherever it is killed."""

from collections.abc import Callable
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from helpers.crews import Late, threads
from helpers.trials import HALF, MINUS, encoded, reports, trial, until_saved
from rigorl.alarming import heed, hold
from rigorl.alarms import AlarmSpec, Fall, Level, Then, Watched
from rigorl.analysis.alarm import ROLLED_BACK, ROLLED_BACK_TO, alarms
from rigorl.blocks import replay
from rigorl.checkpoint import KEPT, Folder, Place, newest
from rigorl.contract import Crew
from rigorl.errors import StorageError
from rigorl.examining import Exams
from rigorl.lockstep import play
from rigorl.outside.in_process import Alone
from rigorl.run import Run
from rigorl.schedules import Change
from rigorl.spec import AgentSpec, Budget
from rigorl.trial import Beat, Bundle, Event, Failure, Report, Start, Trial

FIRST = replace(HALF, random=-5.0, reference=0.0, kwargs={"target": 0.5, "noise": 0.01})
SECOND = replace(MINUS, random=-5.0, reference=0.0)
BUDGET = Budget(
    steps=40, exam_every=5, exam_episodes=2, checkpoint_every=6, dense=(1, 3), num_envs=1
)
CREWS: dict[str, Callable[[], Crew]] = {"late": Late, "threads": lambda: threads(3)}


def alarmed(then: Then = "roll_back", within: int = 4, drop: float = 0.3, **changes: Any) -> Trial:
    """Return a trial that walks away from what it learned: at `rate`, by a third in some steps."""
    times = changes.pop("times", None)
    alarm = AlarmSpec(drop=drop, within=within, then=then, times=times)
    parts: dict[str, Any] = {"tasks": (FIRST, SECOND, THIRD), "budget": BUDGET, "alarm": alarm}
    return trial(config=changes.pop("config", {"every": 3}), **{**parts, **changes})


THIRD = replace(HALF, name="again", kwargs={"target": 0.8})
ROLLS, STOPS = alarmed(), alarmed("stop")


def told(one: Trial, storage: Path | None = None, exams: Exams | None = None) -> list[Event]:
    return list(play(Bundle(trials=(one,)), Alone(), storage, exams))


def backs(events: list[Event]) -> list[float]:
    return [report.metrics[ROLLED_BACK] for report in reports(events)]


@pytest.fixture(scope="module")
def whole() -> dict[str, list[Event]]:
    return {"stop": told(STOPS), "roll_back": told(ROLLS), "mark": told(replace(ROLLS, alarm=None))}


def test_one_that_stops_ends_with_the_fall_and_with_its_reason(
    whole: dict[str, list[Event]],
) -> None:
    *before, last = whole["stop"]
    assert isinstance(last, Failure)
    assert last.alarm
    assert last.lasting
    (first, *_) = alarms(STOPS, reports(before), STOPS.alarm or AlarmSpec(drop=1, within=2))
    assert first.outcome == "stopped"
    assert (first.at.stage, first.at.step) == (last.stage, last.step) == (1, 5)
    assert "the score on task 'half' fell by 0.406 within 4 exams, from 0.99" in last.cause
    made = [(r.stage, r.step, r.scores) for r in reports(before)]
    assert made == [(r.stage, r.step, r.scores) for r in reports(whole["mark"])][: len(made)]


def test_one_that_rolls_back_does_so_at_most_so_often_a_stage(
    whole: dict[str, list[Event]],
) -> None:
    found = reports(whole["roll_back"])
    by_stage = [[r.metrics[ROLLED_BACK] for r in found if r.stage == stage] for stage in range(3)]
    assert by_stage[0] == [0] * len(by_stage[0])
    assert max(by_stage[1]) == 3
    assert max(by_stage[2]) - max(by_stage[1]) <= 3
    assert max(backs(told(alarmed(times=1)))) < max(by_stage[2])
    raised = alarms(ROLLS, found, ROLLS.alarm or AlarmSpec(drop=1, within=2))
    assert [one.outcome for one in raised if one.at.stage == 1].count("rolled back") == 3
    assert "marked" in [one.outcome for one in raised]


def test_steps_stay_spent_and_updates_and_exams_go_on() -> None:
    one = alarmed(config={"every": 1})
    rolled, marked = reports(told(one)), reports(told(replace(one, alarm=None)))
    assert max(r.metrics[ROLLED_BACK] for r in rolled) > 3
    assert [(r.stage, r.step, r.update, r.rung) for r in rolled] == [
        (r.stage, r.step, r.update, r.rung) for r in marked
    ]
    assert rolled[-1].finished
    assert rolled[-1].scores != marked[-1].scores


def test_the_agent_is_that_of_the_last_checkpoint_before_the_fall(tmp_path: Path) -> None:
    """What fell between the exams of 3 and of 5 updates goes back to the switch."""
    run = Run(ROLLS, Alone(), tmp_path)
    at: list[tuple[int, int, float]] = []
    for event in run:
        if isinstance(event, Beat) and event.saved:
            at.append((event.stage, event.step, run.agent.at))  # type: ignore[attr-defined]
        if run.place.backs:
            break
    learned, back = at[-2:]
    assert learned[:2] == (1, 0)
    assert back == (1, 5, learned[2])
    assert run.place.backs == [8]  # exams that it had seen, all of the first task
    assert run.place.update == 45
    assert run.agent.updates == 40  # type: ignore[attr-defined]
    assert run.place.ahead == 5


def test_its_world_does_not_repeat_itself() -> None:
    """A learner that stands still earns what luck gives, and that is not what it earned before."""
    tasks = (FIRST, replace(SECOND, kwargs={"target": -0.5, "noise": 0.5}))
    one = alarmed(tasks=tasks, config={"every": 3, "noise": 0.0, "rate": 0.1})
    found = [r for r in reports(told(one)) if r.stage == 1]
    first, again = found[0], found[next(n for n, r in enumerate(found) if r.metrics[ROLLED_BACK])]
    assert first.metrics["loss"] != again.metrics["loss"]


@pytest.mark.parametrize("crew", CREWS)
@pytest.mark.parametrize("backlog", [1, 100])
@pytest.mark.parametrize("then", ["stop", "roll_back"])
def test_the_same_comes_of_exams_that_do_not_stop_the_learner(
    crew: str, backlog: int, then: str, whole: dict[str, list[Event]]
) -> None:
    one = STOPS if then == "stop" else ROLLS
    found = told(one, None, Exams(CREWS[crew](), backlog))
    assert encoded(found) == encoded(whole[then])
    if then == "stop":
        assert found[-1] == whole[then][-1]


@pytest.mark.parametrize("then", ["stop", "roll_back"])
@pytest.mark.parametrize("crew", [Alone, Late])
def test_killed_anywhere_it_is_the_undisturbed_run(
    then: str, crew: Callable[[], Crew], whole: dict[str, list[Event]], tmp_path: Path
) -> None:
    one, exams = (STOPS if then == "stop" else ROLLS), Exams(crew(), 3 if crew is Late else 0)
    length = len(told(one, tmp_path / "length", exams))
    for cut in range(2, length, 9 if crew is Alone else 19):
        place = tmp_path / str(cut)
        first = list(islice(play(Bundle(trials=(one,)), Alone(), place, exams), cut))
        again = told(one, place, exams)
        assert encoded([*first, *again]) == encoded(whole[then]), cut
        if then == "stop":
            assert again[-1] == whole[then][-1]


def test_written_or_not_it_is_the_same(tmp_path: Path, whole: dict[str, list[Event]]) -> None:
    assert encoded(told(ROLLS, tmp_path)) == encoded(whole["roll_back"])


def test_what_it_may_go_back_to_is_kept_and_no_more(tmp_path: Path) -> None:
    run, most = Run(ROLLS, Alone(), tmp_path), 0
    for event in run:
        if isinstance(event, Beat) and event.saved:
            there = {path.name for path in (tmp_path / ROLLS.id).glob("checkpoint-*")}
            assert there >= set(run.place.needed) | set(run.place.needed_before)
            assert len(there) <= KEPT + len(set(run.place.needed) | set(run.place.needed_before))
            most = max(most, len(there))
    assert most > KEPT


@pytest.mark.parametrize("count", range(9, 20, 2))
def test_one_to_go_back_to_that_is_corrupt_costs_time_and_nothing_else(
    count: int, tmp_path: Path, whole: dict[str, list[Event]]
) -> None:
    events = play(Bundle(trials=(ROLLS,)), Alone(), tmp_path)
    first = until_saved(events, count)
    with newest(Folder(tmp_path / ROLLS.id)) as found:
        needed = found.place.needed
    (tmp_path / ROLLS.id / needed[0] / "seeker.json").write_bytes(b"{}")
    rest: list[Event] = []
    with suppress(StorageError):  # or it is never asked for
        rest.extend(events)
    start, *again = told(ROLLS, tmp_path)
    assert isinstance(start, Start)
    assert encoded([*first, *rest, *again]) == encoded(whole["roll_back"])


@pytest.mark.parametrize("count", range(9, 20, 2))
def test_one_to_fall_back_to_has_all_that_it_may_go_back_to(
    count: int, tmp_path: Path, whole: dict[str, list[Event]]
) -> None:
    first = until_saved(play(Bundle(trials=(ROLLS,)), Alone(), tmp_path), count)
    *_, before, last = sorted((tmp_path / ROLLS.id).glob("checkpoint-*"))
    with newest(Folder(tmp_path / ROLLS.id)) as found:
        harmless = before.name in found.place.needed  # then the newest is no good without it
    (last / "seeker.json").write_bytes(b"{}")
    start, *again = told(ROLLS, tmp_path)
    assert isinstance(start, Start)
    assert harmless or start.note.endswith(f"went on from {before.name}")
    assert not start.note.endswith("began anew")
    assert encoded([*first, *again]) == encoded(whole["roll_back"])


@pytest.mark.parametrize(("rate", "within"), [(0.02, 12), (0.01, 6), (0.01, 12)])
def test_it_never_goes_back_past_the_switch_to_the_running_task(rate: float, within: int) -> None:
    """What fell slowly, over more than one task, fell from a level of the task before."""
    one = alarmed(within=within, times=9, config={"rate": rate, "every": 1}, drop=0.15)
    found = reports(told(one))
    at_switch = [sum(r.stage < stage for r in found) for stage in range(3)]
    went = 0
    for here, after in pairwise(found):
        if after.metrics[ROLLED_BACK] > here.metrics[ROLLED_BACK]:
            went += after.stage == 2
            assert after.metrics[ROLLED_BACK_TO] >= at_switch[after.stage]
    assert went


def test_at_a_switch_what_came_before_is_out_of_reach() -> None:
    levels = (Level(0.9, 2, 60, 60, "long ago"), Level(0.8, 3, 80, 80, "lately"))
    place = Place(stage=2, step=0, update=80, watched={"half": Watched(3, levels)})
    hold(ROLLS, place)
    assert {level.checkpoint for level in place.watched["half"].levels} == {place.name}
    assert place.needed == [place.name]


def test_of_several_tasks_the_earliest_checkpoint_is_gone_back_to() -> None:
    falls = [
        Fall(task, Level(0.9, 1, 1, 1, checkpoint), 0.1, 2, 5)
        for task, checkpoint in (("minus", "checkpoint-0002"), ("half", "checkpoint-0001"))
    ]
    place = Place(stage=2, step=5, fallen=falls)
    assert heed(ROLLS, place) == "checkpoint-0001"
    assert place.fallen == []
    place = Place(stage=2, step=5, fallen=falls, backs=[1, 2, 3, 4], backs_before=1)
    assert heed(ROLLS, place) is None
    assert place.fallen == []


def test_a_replay_is_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "SEGMENT", 4)
    sac = {"learning_starts": 4, "batch": 8, "hidden": [8], "capacity": 64, "lr": 0.1}
    sac |= {"update_ratio": 2.0, "temperature": 0.01}
    one = alarmed(agent=AgentSpec(name="sac", config=sac), drop=0.02, tasks=(FIRST, SECOND))
    undisturbed = told(one)
    assert max(backs(undisturbed)) == 2
    for count in (9, 11, 13):
        first = until_saved(play(Bundle(trials=(one,)), Alone(), tmp_path / str(count)), count)
        again = told(one, tmp_path / str(count))
        assert encoded([*first, *again]) == encoded(undisturbed)


def test_a_fall_at_the_end_of_a_stage_stops_it_and_takes_nothing_back(tmp_path: Path) -> None:
    late = Budget(steps=8, exam_every=8, exam_episodes=2, dense=(7,), checkpoint_every=6)
    for then in ("stop", "roll_back"):
        one = alarmed(then, within=2, budget=late, drop=0.15, config={"every": 30})
        events = told(one, tmp_path / then)
        if then == "roll_back":
            assert alarms(one, reports(events), one.alarm or AlarmSpec(drop=1, within=2))
            ends = [r.metrics[ROLLED_BACK] for r in reports(events) if r.stage_ended]
            assert ends == [0, 0, 0]
        else:
            assert isinstance(events[-1], Failure)
            assert events[-1].stage == 1
            place = tmp_path / "cut"
            cut = until_saved(play(Bundle(trials=(one,)), Alone(), place), 3)
            again = told(one, place)
            assert again[-1] == events[-1]
            assert encoded([*cut, *again]) == encoded(events)


def test_at_the_very_end_there_is_nothing_left_to_stop() -> None:
    one = alarmed("stop", within=2, tasks=(FIRST, SECOND), budget=replace(BUDGET, exam_every=40))
    one = replace(one, budget=replace(one.budget, dense=()))
    last = reports(told(one))[-1]
    assert last.finished
    assert alarms(one, reports(told(one)), AlarmSpec(drop=0.3, within=2))[0].outcome == "marked"


def test_settings_that_changed_since_stay_changed(tmp_path: Path) -> None:
    changes: tuple[Change, ...] = ((44, {"rate": 0.2}),)
    agent = AgentSpec(name="helpers.seeker", config={"every": 3}, schedule=changes)
    one = alarmed(agent=agent)
    run = Run(one, Alone(), tmp_path)
    for _ in run:
        if run.place.backs:
            assert run.agent.config.rate == 0.2  # type: ignore[attr-defined]
    assert run.place.backs
    assert encoded(told(one)) == encoded(told(one, tmp_path / "again"))


def test_a_candidate_on_several_seeds_that_stops_ends_for_all() -> None:
    bundle = Bundle(trials=(STOPS, replace(STOPS, seed=1)))
    blocking = list(play(bundle, Alone(), None))
    late = list(play(bundle, Alone(), None, Exams(Late(), 100)))
    assert isinstance(blocking[-1], Failure)
    assert blocking[-1].alarm
    assert late[-1] == blocking[-1]
    assert encoded(late) == encoded(blocking)


def test_what_a_report_says_of_its_past_is_there_for_those_alone_that_may_go_back(
    whole: dict[str, list[Event]],
) -> None:
    for then, names in {"stop": set(), "roll_back": {ROLLED_BACK, ROLLED_BACK_TO}}.items():
        metrics = [r.metrics.keys() & {ROLLED_BACK, ROLLED_BACK_TO} for r in reports(whole[then])]
        assert metrics == [names] * len(metrics)
    rolled = reports(whole["roll_back"])
    assert all(a.metrics[ROLLED_BACK] <= b.metrics[ROLLED_BACK] for a, b in pairwise(rolled))


def test_it_survives_the_wire() -> None:
    assert msgspec.json.decode(msgspec.json.encode(ROLLS), type=Trial).id == ROLLS.id
    plain = replace(ROLLS, alarm=None)
    assert plain.id != ROLLS.id != STOPS.id
    assert isinstance(told(plain)[-1], Beat | Report)
