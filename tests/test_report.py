"""Pages and pictures say what the verdict says, holes included."""

import json
import math
from collections.abc import Sequence

import pytest

from conftest import TINY, tiny
from rigorl import estimate, experiment, pricing, report, telling
from rigorl.analysis.curves import Curve
from rigorl.analysis.verdict import Verdict
from rigorl.estimate import Cost
from rigorl.figures.curves import learning_curves
from rigorl.fitting import Node
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess, Memory
from rigorl.resources import Needs
from rigorl.spec import Experiment

TASKS = [
    {"name": "half", "env": "helpers.worlds:Target-v0"},
    {"name": "other", "env": "helpers.worlds:Target-v0", "kwargs": {"target": -0.5}},
]
ARMS = {
    **TINY["arms"],
    "broken": {"agent": {"name": "helpers.seeker", "config": {"nan_at": 7}}},
}


@pytest.fixture(scope="module")
def spec() -> Experiment:
    return tiny(arms=ARMS, tasks=TASKS)


@pytest.fixture(scope="module")
def journal() -> Memory:
    return Memory()


@pytest.fixture(scope="module")
def verdict(spec: Experiment, journal: Memory) -> Verdict:
    return experiment.run(spec, InProcess(), journal, optuna_ask.ask)


def curves(journal: Memory, arm: str) -> Sequence[Curve]:
    ours = [trial for trial in journal.trials.values() if trial.arm == arm]
    return [Curve.of(trial, journal.reports({trial.id})[trial.id]) for trial in ours]


def test_the_page_names_arms_numbers_holes_and_causes(verdict: Verdict) -> None:
    page = report.markdown(verdict)
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if "|" in line}
    score = verdict.arms["seeker"].score
    assert score is not None
    assert score.iqm.point is not None
    assert f"{score.iqm.point:.3g} [" in rows["seeker"]
    assert "| 0/2 " in rows["broken"]
    assert page.count("loss is nan at step 7") == 2
    assert "only 2 test seeds" in page
    assert "min-ACC" in page
    widths = {len(line) for line in page.split("\n\n")[2].splitlines()}
    assert len(widths) == 1, "columns stand under each other"


def test_json_holds_the_whole_verdict_and_no_nan(verdict: Verdict) -> None:
    told = json.loads(report.as_json(verdict), parse_constant=pytest.fail)
    assert told["arms"]["seeker"]["complete"]
    assert not told["arms"]["broken"]["complete"]


def test_a_page_for_the_browser_stands_alone_and_hides_no_markup(verdict: Verdict) -> None:
    page = report.html(verdict, ["<div id=curves></div>"])
    assert page.startswith("<!doctype html>")
    assert "<div id=curves></div>" in page
    assert "&gt; Does the machinery" in page
    assert "http" not in page


def test_a_figure_has_a_panel_a_task_and_a_line_an_arm(
    spec: Experiment, journal: Memory, verdict: Verdict
) -> None:
    figure = learning_curves(spec, {"seeker": curves(journal, "seeker")})
    lines = [trace for trace in figure.data if trace.name == "seeker"]
    assert len(lines) == len(spec.tasks)
    grey = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert [(shape.x0, shape.x1) for shape in grey] == [(0, 20), (20, 40)]
    upright = [shape for shape in figure.layout.shapes if shape.type == "line"]
    assert [shape.x0 for shape in upright] == [20, 20], "a switch in each panel"
    first = curves(journal, "seeker")
    mean = (first[0].scores_TN[0] + first[1].scores_TN[0]) / 2
    assert list(lines[0].y) == pytest.approx(mean.tolist())


def test_seeds_examined_at_other_steps_are_interpolated() -> None:
    spec = tiny(budget={"steps": 40, "exam_every": 10, "exam_episodes": 1})
    other = tiny(
        budget={"steps": 40, "exam_every": 20, "exam_episodes": 1},
    )
    journals = [Memory(), Memory()]
    for one, journal in zip((spec, other), journals, strict=True):
        experiment.run(one, InProcess(), journal, optuna_ask.ask)
    mixed = [curves(journals[0], "seeker")[0], curves(journals[1], "seeker")[0]]
    figure = learning_curves(spec, {"seeker": mixed})
    (line,) = [trace for trace in figure.data if trace.name == "seeker"]
    assert list(line.x) == [10, 20, 30, 40]


def test_costs_add_up() -> None:
    cost = Cost(
        "ppo",
        "test",
        trials=5,
        steps=1000,
        exams=10,
        disk_bytes=2_000_000,
        core_s=90.0,
        trial_s=18.0,
        wait_s=9.0,
        crew_load=0.0,
    )
    page = pricing.costs([cost, cost], 120.0)
    assert "| all        | 10     | 2,000 | 20    | 4.0 MB | 3.0 min " in page
    assert "About 2.0 min on this machine" in page


def test_what_fits_on_a_cluster_is_told_with_the_price() -> None:
    spec = tiny(budget={"cpus": 2, "gpus": 1, "steps": 20, "exam_every": 10, "exam_episodes": 1})
    total = Needs(8, 2, 2**33, {"arm": 1.0}, {"zone": "eu"})
    nodes = [Node("10.0.0.1", total, Needs(4, 0, 2**32)), Node("10.0.0.2", Needs(8), Needs(8))]
    fits = telling.fits(spec, nodes)
    assert (fits["now"], fits["at_once"], fits["never"]) == (0, 2, "")
    cost = Cost(
        "ppo",
        "test",
        trials=4,
        steps=1000,
        exams=10,
        disk_bytes=2_000_000,
        core_s=240.0,
        trial_s=60.0,
        wait_s=0.0,
        crew_load=0.0,
    )
    page = pricing.costs([cost], estimate.wall_s([cost], spec, fits["at_once"]), fits)
    assert "About 2.0 min with 2 trials at once" in page
    assert "| 10.0.0.1 | 4/8       | 0/2       | 4.0/8.0 GiB | 1 arm, zone=eu |" in page
    assert page.endswith(
        "Trials at once: 0 now (waits for 1 GPU: all 2 are taken, 2 on 10.0.0.1); "
        "2 when all is free.\n"
    )


def test_what_never_fits_has_no_time() -> None:
    spec = tiny(budget={"cpus": 9, "steps": 20, "exam_every": 10, "exam_episodes": 1})
    fits = telling.fits(spec, [Node("10.0.0.1", Needs(8), Needs(8))])
    cost = Cost(
        "ppo",
        "test",
        trials=4,
        steps=1000,
        exams=10,
        disk_bytes=2_000_000,
        core_s=240.0,
        trial_s=60.0,
        wait_s=0.0,
        crew_load=0.0,
    )
    wall = estimate.wall_s([cost], spec, fits["at_once"])
    assert wall == math.inf
    page = pricing.costs([cost], wall, fits)
    assert "About" not in page
    assert page.endswith(
        "No trial ever fits on these nodes: asks for 9 CPUs on one node; "
        "the nearest, 10.0.0.1, has 8 CPUs. Nodes that an autoscaler may add are not counted.\n"
    )
    assert json.loads(report.as_json({"wall_s": wall})) == {"wall_s": None}


def test_several_searches_are_told_beside_the_first(spec: Experiment) -> None:
    space = {"rate": {"kind": "choice", "of": [0.1, 0.2, 0.3]}}
    arm = {**TINY["arms"]["seeker"], "search": {"space": space, "candidates": 2, "repeats": 2}}
    twice = tiny(arms={"x": arm}, seeds={"tune": [5, 6], "test": [0, 1]})
    page = report.markdown(experiment.run(twice, InProcess(), Memory(), optuna_ask.ask))
    assert "| x, 2 searches " in page
    assert "arm 'x' searched 2 times" in page
