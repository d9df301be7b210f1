"""What arms come to under attack, worked by hand, from made-up reports."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import sieges
from helpers.histories import FEW
from helpers.sieges import ARMS, FRESH, TASK, report, rows, siege, trials
from rigorl import report as pages
from rigorl.analysis.borne import Borne, borne, measured, response, under_attack, worst
from rigorl.analysis.robust import Robustness
from rigorl.analysis.verdict import Verdict
from rigorl.tasks.pushes import Attack, Push, Sinus

SHARES = st.floats(0.01, 0.99)
NUMBERS = st.floats(-100, 100)


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    return sieges.verdict(siege())


@pytest.fixture(scope="module")
def a(verdict: Verdict) -> Robustness:
    return verdict.arms["a"].robust["half"]


def attacks(costs: dict[float, float]) -> list[Borne]:
    """Return attacks by strength, that earn 10 less what they cost."""
    return [
        Borne(Attack(0, s) if s else None, 10 - cost, 0.0, cost, s, s * s)
        for s, cost in costs.items()
    ]


# One seed


def test_the_worst_attacker_is_who_costs_most_at_each_strength() -> None:
    spec = siege()
    (trial,) = [t for t in trials(spec) if t.arm == "fresh-a" and t.seed == 0]
    found = worst(borne(report(trial, rows(trial)), "half"))
    assert {s: one.earned for s, one in found.items()} == {0.0: 10, 0.5: 9, 1.0: 4}
    assert {s: one.fell for s, one in found.items()} == {0.0: 0, 0.5: 0.25, 1.0: 1}


def test_a_trial_that_attacks_says_what_it_found_and_no_other_does() -> None:
    spec = siege()
    by = {t.arm: t for t in trials(spec) if t.seed == 0}
    found = under_attack(report(by["fresh-a"], rows(by["fresh-a"])), ["half", "other"])
    assert found["robust/half/nominal"] == 10
    # Halfway who costs most leaves 9, but who leaves least leaves 8.
    assert found["robust/half/auc"] == pytest.approx((10 + 8) / 2 * 0.5 + (8 + 4) / 2 * 0.5)
    assert not any("other" in name for name in found)
    assert under_attack(report(by["a"], rows(by["a"])), ["half"]) == {}


def test_areas_are_from_the_policy_alone_to_the_whole_limit() -> None:
    found = measured(attacks({0.0: 0, 0.5: 2, 1.0: 6}), (0, 10), None)
    assert found["auc"] == pytest.approx(((10 + 8) / 2 * 0.5 + (8 + 4) / 2 * 0.5) / 10)
    assert math.isnan(measured(attacks({0.0: 0, 0.5: 2}), (0, 10), None)["auc"])
    assert math.isnan(measured(attacks({0.5: 2, 1.0: 6}), (0, 10), None)["auc"])
    assert math.isnan(measured(attacks({0.0: 0, 1.0: 6}), None, None)["auc"])


@FEW
@given(st.dictionaries(SHARES, NUMBERS, max_size=4), NUMBERS, NUMBERS)
def test_an_area_is_a_mean(between: dict[float, float], alone: float, full: float) -> None:
    costs = {0.0: alone, 1.0: full, **between}
    area = measured(attacks(costs), (0, 1), None)["auc"]
    earned = [10 - cost for cost in costs.values()]
    assert min(earned) - 1e-9 <= area <= max(earned) + 1e-9


@FEW
@given(SHARES, st.floats(0, 50), st.floats(0, 50), st.floats(-50, 50))
def test_a_further_attacker_never_helps(
    strength: float, cost: float, more: float, earned: float
) -> None:
    """Costs end where rewards are best, and returns do not: who costs most may leave more."""
    few = attacks({0.0: 0, strength: cost, 1.0: 20})
    many = [*few, Borne(Attack(1, strength), earned, 0.0, more, 1.0, 1.0)]
    one, other = (measured(seen, (0, 1), None) for seen in (few, many))
    assert other["auc"] <= one["auc"] + 1e-9


def test_a_ratio_is_of_all_attackers_at_the_greatest_strength() -> None:
    seen = [
        Borne(Attack(0, 0.5), 0, 0, 50, 0.1, 0.01),
        Borne(Attack(0, 1.0), 0, 0, 6, 2.0, 4.0),
        Borne(Attack(1, 1.0), 0, 0, 5, 1.0, 10.0),
        Borne(Attack(2, 1.0), 0, 0, 9, 0.0, 0.0),  # has not pushed
    ]
    found = measured(seen, None, (6.0, "plain"))
    assert found["ratio"] == 5
    assert found["energy_ratio"] == 1.5
    assert found["slack"] == 1.0
    assert measured(seen, None, (6.0, "squared"))["slack"] == 4.5
    assert math.isnan(measured(seen[-1:], None, None)["ratio"])


def test_a_response_is_the_worst_of_a_period() -> None:
    seen = [
        Borne(Sinus("a", 0.5, 0.0, 8), 0, 0, 8, 1, 2),
        Borne(Sinus("b", 0.5, 0.0, 8), 0, 0, 18, 1, 2),
        Borne(Sinus("a", 0.5, 0.0, 4), 0, 0, 4, 1, 4),
        Borne(Push("a", 0.5, 0.0, 4), 0, 0, 99, 1, 1),
    ]
    assert response(seen) == {"4": 1.0, "8": 3.0}


# Over seeds


def test_measures_are_told_seed_by_seed_on_the_scale(a: Robustness) -> None:
    assert a.measures["nominal"].by_seed == pytest.approx((10, 10.1, 10.2))
    assert a.measures["auc"].by_seed == pytest.approx((0.75, 0.76, 0.77))
    assert a.measures["auc"].mean.point == pytest.approx(0.76)
    assert a.measures["auc_fell"].mean.point == pytest.approx((0.25 / 2 + 1.25 / 2) / 2)
    assert a.measures["ratio"].mean.point == 5
    assert a.measures["slack"].mean.point == 1
    assert a.by == ("fresh-a", "grid-a")
    assert [level.strength for level in a.levels] == [0, 0.5, 1]
    assert a.levels[1].earned.by_seed == pytest.approx((8, 8.1, 8.2))


def test_a_bound_is_of_the_arm_that_was_asked_for_it(verdict: Verdict) -> None:
    assert "slack" not in verdict.arms["b"].robust["half"].measures


def test_a_grid_is_an_array_with_labels(a: Robustness, verdict: Verdict) -> None:
    assert a.grid is not None
    assert a.grid.bodies == ("foot", "torso")
    assert a.grid.directions == ("000", "180", "up")
    earned = np.array(a.grid.earned)
    assert earned.shape == (2, 2, 3, 2)
    assert earned[1, 0, 2].tolist() == pytest.approx([9.6, 9.1])  # 10 - n/2, and 0.1 of luck
    assert np.array(a.grid.fell)[0, 1].tolist() == [[1, 1]] * 3
    assert verdict.arms["b"].robust["half"].grid is None
    assert {at: told.mean.point for at, told in a.response.items()} == {
        "8": pytest.approx(math.sqrt(2)), "32": 1.0,
    }  # fmt: skip


def test_arms_are_compared_on_the_same_seeds(verdict: Verdict) -> None:
    (pair,) = verdict.pairs
    told = pair.robust["half"]
    assert (pair.a, pair.b) == ("a", "b")
    assert told["auc"].by_seed == pytest.approx((0.1, 0.1, 0.1))
    assert told["auc"].mean.high == pytest.approx(0.1)
    assert told["ratio"].mean.point == 0
    assert set(told) == {"nominal", "auc", "auc_fell", "ratio"}


def test_who_pushes_is_no_answer(verdict: Verdict) -> None:
    for arm in ("fresh-a", "grid-a"):
        one = verdict.arms[arm]
        assert one.complete
        assert (one.score, one.returns, one.robust) == (None, {}, {})
    (note,) = [note for note in verdict.notes if "no answers" in note]
    assert note.startswith("fresh-a, fresh-b, grid-a push other arms")


def test_a_seed_without_its_attack_leaves_an_arm_untold() -> None:
    spec = siege()
    reports = {t.id: [report(t, rows(t))] for t in trials(spec)}
    missing = next(t for t in trials(spec) if t.arm == "fresh-a" and t.seed == 1)
    del reports[missing.id]
    found = sieges.judged(spec, reports)
    alone = found.arms["a"].robust["half"]
    assert alone.by == ("grid-a",)
    assert alone.measures["auc"].mean.point is None
    assert alone.measures["auc"].by_seed == (None, None, None)
    assert found.pairs[0].robust["half"]["auc"].mean.point is None


def test_without_attacks_nothing_is_told() -> None:
    spec = siege(arms={name: ARMS[name] for name in ("a", "b")})
    found = sieges.verdict(spec)
    assert found.arms["a"].robust == {}
    assert found.pairs[0].robust == {}
    assert not any("attack" in note for note in found.notes)
    assert "attack" not in pages.markdown(found)


def test_of_a_sequence_the_attack_at_the_end_of_a_tasks_own_stage_counts() -> None:
    spec = siege(tasks=[TASK, {**TASK, "name": "other"}])
    stale = {name: (99.0, *row[1:]) for name, row in FRESH.items()}
    reports = {}
    for t in trials(spec):
        here: Any = FRESH if t.arm.startswith("fresh") else rows(t)
        later: Any = stale if t.arm.startswith("fresh") else rows(t)
        reports[t.id] = [report(t, here), report(t, later, stage=1)]
    found = sieges.judged(spec, reports)
    robust = found.arms["b"].robust
    assert robust["half"].measures["auc"].mean.point == pytest.approx(0.75)
    assert robust["other"].measures["nominal"].mean.point == pytest.approx(99)


def test_a_task_without_a_port_is_not_attacked() -> None:
    bare = {key: value for key, value in TASK.items() if key != "port"}
    assert sieges.verdict(siege(tasks=[bare])).arms["a"].robust == {}


# The bound


def broken(config: dict[str, Any], **told: float) -> Verdict:
    spec = siege(arms={**ARMS, "a": {"agent": {"name": "hinf", "config": config}}})
    reports = {}
    for t in trials(spec):
        mine = told if t.arm == "a" and t.seed != 1 else {}
        reports[t.id] = [report(t, rows(t), **mine)]
    return sieges.judged(spec, reports)


def test_a_bound_that_was_not_kept_is_told_plainly() -> None:
    metrics = {"infeasible": 1.0, "ratio": 0.31, "lambda": 10.0, "slack": 1 - 0.31 / 0.2}
    (note,) = [n for n in broken({"eta": 0.2}, **metrics).notes if "eta" in n]
    assert note == (
        "arm 'a': no policy within eta = 0.2 was found on seeds [0, 2]: measured ratio 0.31, 0.31, "
        "lambda at its cap 10; raise eta, or the budget"
    )
    assert note in pages.markdown(broken({"eta": 0.2}, **metrics))
    assert any("eta = 0.2 was" in n for n in broken({}, **metrics).notes), "read off the slack"
    assert broken({}, **metrics).arms["a"].robust["half"].measures["slack"].mean.point == (
        pytest.approx(0.2 - 5)
    )


def test_a_bound_that_was_kept_is_not_a_note() -> None:
    said = {"infeasible": 0.0, "ratio": 0.3, "slack": -0.5, "lambda": 0.3}
    kept = broken({"eta": 0.2}, kappa=0.21, **said)
    assert not any("eta" in note for note in kept.notes), "one rollout's ratio is no verdict"


def test_a_bound_is_told_that_was_not_kept_while_lambda_was_on_its_way() -> None:
    said = {"infeasible": 0.0, "ratio": 0.19, "slack": 0.05, "lambda": 0.3, "kappa": 0.27}
    (note,) = [n for n in broken({"eta": 0.2}, **said).notes if "eta" in n]
    assert note == (
        "arm 'a': eta = 0.2 was not kept yet on seeds [0, 2]: measured ratio lately 0.27, 0.27, "
        "with lambda on its way at 0.3, 0.3; raise lambda_lr, the budget, or eta"
    )
    fixed = broken({"eta": 0.2, "lambda_lr": 0.0, "lambda_init": 0.3}, **said)
    assert not any("eta = " in note for note in fixed.notes), "its price was given, and no bound"


# Pages


def test_the_page_has_what_arms_come_to_under_attack(verdict: Verdict) -> None:
    page = pages.markdown(verdict)
    rows_ = [
        [c.strip() for c in line.split("|")[1:-1]] for line in page.splitlines() if "|" in line
    ]
    (head,) = [row for row in rows_ if row[0] == "under attack, mean [95 %]"]
    told = {tuple(row[:2]): row for row in rows_ if len(row) == len(head)}
    mine, theirs = (dict(zip(head, told[arm, "half"], strict=True)) for arm in "ab")
    assert mine["robust AUC"] == "0.76 [0.75, 0.77]"
    assert mine["worst cost / force"] == "5 [5, 5]"
    assert theirs["slack"] == "-"
    assert "## Under attack" in page
    assert any([*row[:2], row[3]] == ["a - b", "half", "0.1 [0.1, 0.1]"] for row in rows_)
    assert "a on half, by period in steps: 1.41 [1.41, 1.41] at 8, 1 [1, 1] at 32" in page
    assert any(row[0] == "fresh-a" and row[2] == "-" for row in rows_), "no score"


def test_json_has_all_of_it_and_no_nan(verdict: Verdict) -> None:
    told = json.loads(pages.as_json(verdict), parse_constant=pytest.fail)
    assert told["arms"]["a"]["robust"]["half"]["grid"]["durations"] == [1, 2]
    assert told["pairs"][0]["robust"]["half"]["auc"]["by_seed"] == pytest.approx([0.1] * 3)
