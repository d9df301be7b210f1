"""Pictures of arms under attack show what the verdict says."""

from typing import Any

import msgspec
import pytest

from helpers import sieges
from helpers.sieges import ARMS, TASK, report, rows, siege, trials
from rigorl import pictures
from rigorl.analysis.robust import Grid
from rigorl.analysis.verdict import Verdict
from rigorl.figures.robust import directions, prices, strengths
from rigorl.outside.in_process import Memory
from rigorl.spec import Experiment


@pytest.fixture(scope="module")
def spec() -> Experiment:
    return siege()


@pytest.fixture(scope="module")
def verdict(spec: Experiment) -> Verdict:
    return sieges.verdict(spec)


def lines(figure: Any, name: str) -> list[Any]:
    return [trace for trace in figure.data if trace.name == name]


def around(verdict: Verdict, **changes: Any) -> Verdict:
    """Return *verdict* with a circle in the grid of arm a."""
    grid = Grid(
        bodies=("x", "y"),
        strengths=(1.0, 0.5),
        directions=("000", "120", "240", "up"),
        durations=(1,),
        earned=(
            (((5.0,), (-3.0,), (2.0,), (-9.0,)), ((9.0,),) * 4),
            (((4.0,), (1.0,), (6.0,), (7.0,)), ((9.0,),) * 4),
        ),
        fell=((((0.0,),) * 4,) * 2,) * 2,
    )
    arm = verdict.arms["a"]
    robust = msgspec.structs.replace(
        arm.robust["half"], grid=msgspec.structs.replace(grid, **changes)
    )
    arms = {**verdict.arms, "a": msgspec.structs.replace(arm, robust={"half": robust})}
    return msgspec.structs.replace(verdict, arms=arms)


def test_a_curve_goes_from_the_policy_alone_to_the_whole_limit(
    spec: Experiment, verdict: Verdict
) -> None:
    figure = strengths(spec, verdict)
    assert figure is not None
    (a,), (b,) = lines(figure, "a"), lines(figure, "b")
    assert list(a.x) == [0, 0.5, 1]
    assert list(a.y) == pytest.approx([10.1, 8.1, 4.1])
    assert list(b.y) == pytest.approx([9.1, 7.1, 3.1])
    low, high = (trace for trace in figure.data if trace.legendgroup == "a" and not trace.name)
    assert list(low.y) == pytest.approx([10, 8, 4])
    assert list(high.y) == pytest.approx([10.2, 8.2, 4.2])


def test_each_task_that_is_attacked_has_a_panel_and_an_arm_one_entry(spec: Experiment) -> None:
    two = siege(tasks=[TASK, {**TASK, "name": "other"}])
    reports = {t.id: [report(t, rows(t), stage=stage) for stage in (0, 1)] for t in trials(two)}
    found = sieges.judged(two, reports)
    figure = strengths(two, found)
    assert figure is not None
    assert [note.text for note in figure.layout.annotations] == ["half", "other"]
    assert [line.showlegend for line in lines(figure, "a")] == [True, False]


def test_without_attackers_there_is_nothing_to_see(spec: Experiment) -> None:
    bare = siege(arms={name: ARMS[name] for name in ("a", "b")})
    found = sieges.verdict(bare)
    assert strengths(bare, found) is None
    assert directions(bare, found) is None
    assert prices(bare, {"a": [[report(trials(bare)[0], {})]]}) is None


def test_a_circle_shows_the_worst_of_the_strongest_pushes_and_is_closed(
    spec: Experiment, verdict: Verdict
) -> None:
    figure = directions(spec, around(verdict))
    assert figure is not None
    (line,) = lines(figure, "a")
    assert list(line.theta) == [0, 120, 240, 0]
    assert list(line.r) == [4, -3, 2, 4]
    low, high = figure.layout.polar.radialaxis.range
    assert low < -3
    assert high > 4


def test_two_ways_make_no_circle_and_a_hole_none_either(spec: Experiment, verdict: Verdict) -> None:
    assert directions(spec, verdict) is None  # 0, 180 and up
    holed: Any = ((((None,),) * 4, ((9.0,),) * 4),) * 2
    assert directions(spec, around(verdict, earned=holed)) is None


def test_the_price_of_a_bound_is_shown_where_it_was_told(spec: Experiment) -> None:
    ours = [t for t in trials(spec) if t.arm == "a"]
    early = [
        msgspec.structs.replace(report(t, {}, **{"lambda": 0.0}), step=10) for t in ours
    ]  # nobody was pushed yet
    late = [report(t, {}, **{"lambda": 2.0 + t.seed, "slack": -0.5}) for t in ours]
    told = {"a": [list(pair) for pair in zip(early, late, strict=True)], "b": [[]]}
    figure = prices(spec, told)
    assert figure is not None
    price, slack = lines(figure, "a")
    assert (list(price.x), list(price.y)) == ([10, 20], [0, 3])
    assert (list(slack.x), list(slack.y)) == ([20], [-0.5])
    assert not lines(figure, "b")


def test_what_was_told_once_is_a_point_with_a_bar_over_seeds(spec: Experiment) -> None:
    ours = [t for t in trials(spec) if t.arm == "a"]
    told = {"a": [[report(t, {}, **{"lambda": 2.0 + t.seed, "slack": -0.5})] for t in ours]}
    figure = prices(spec, told)
    assert figure is not None
    price, _ = lines(figure, "a")
    assert (price.mode, list(price.x), list(price.y)) == ("markers", [20], [3])
    assert (list(price.error_y.arrayminus), list(price.error_y.array)) == ([1], [1])


def test_pictures_of_a_study_have_attacks_but_no_curve_of_who_attacks(
    spec: Experiment, verdict: Verdict
) -> None:
    journal: Any = Memory()
    ours = trials(spec)
    journal.record(ours, [report(trial, rows(trial)) for trial in ours])
    shown = {picture.name: picture for picture in pictures.pictures(spec, verdict, journal)}
    assert list(shown) == ["tests", "strengths"]
    named = {trace.name for trace in shown["tests"].figure.data if trace.name}  # type: ignore[union-attr]
    assert named == {"a", "b"}
