"""What a curve comes to, worked by hand."""

import math

import pytest

from conftest import tiny
from rigorl import plan
from rigorl.analysis.curves import Curve, means, summary
from rigorl.trial import Report, Score, Trial

NAN = math.nan
TASKS = [{"name": name, "env": "helpers.worlds:Target-v0"} for name in ("half", "less")]


def trial() -> Trial:
    spec = tiny(tasks=TASKS)  # 20 steps a task
    return plan.trials(spec, "seeker", "test", {}, [0])[0]


def exam(stage: int, step: int, **returns: float) -> Report:
    return Report(
        trial=trial().id,
        stage=stage,
        step=step,
        update=step,
        rung=None,
        stage_ended=False,
        finished=False,
        metrics={},
        scores=tuple(Score(task, "policy", ((value,),)) for task, value in returns.items()),
    )


def found(*exams: Report) -> dict[str, float]:
    return summary(Curve.of(trial(), exams))


def test_a_curve_comes_to_its_end_its_peak_and_the_area_below_it() -> None:
    exams = exam(0, 10, half=1, less=0), exam(0, 20, half=3, less=0), exam(1, 20, half=2, less=8)
    assert found(*exams) == {
        "final/half": 2.0,
        "best/half": 3.0,
        "auc/half": pytest.approx((10 * (1 + 3) / 2 + 20 * (3 + 2) / 2) / 30),  # steps 10, 20, 40
        "final/less": 8.0,
        "best/less": 8.0,
        "auc/less": pytest.approx((10 * 0 + 20 * (0 + 8) / 2) / 30),
    }


def test_exams_without_a_score_are_stepped_over() -> None:
    exams = exam(0, 10, half=1), exam(0, 15, half=NAN, less=4), exam(0, 20, half=3)
    assert found(*exams) == {
        "final/half": 3.0,
        "best/half": 3.0,
        "auc/half": pytest.approx(2.0),
        "best/less": 4.0,  # no final: the last exam says nothing of it
        "auc/less": 4.0,
    }


def test_exams_that_span_no_steps_have_a_mean_all_the_same() -> None:
    assert found(exam(0, 10, half=1))["auc/half"] == 1.0
    assert found(exam(0, 10, half=1), exam(0, 10, half=2))["auc/half"] == 1.5
    assert found(exam(0, 10, half=NAN)) == {}


def test_nothing_is_averaged_over_what_is_missing() -> None:
    assert means([{"a": 1.0, "b": 1.0}, {"a": 4.0}]) == {"a": 2.5}
    assert means([]) == {}
