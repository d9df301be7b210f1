"""What is hatched, dotted and seen closely; and the cards and tables beside it."""

from typing import Any

import msgspec
import numpy as np
import pytest

from conftest import TINY, tiny
from rigorl import course, experiment, report
from rigorl.analysis.curves import Curve
from rigorl.analysis.verdict import Verdict
from rigorl.figures.bands import Seeds, Style, over_seeds, styles
from rigorl.figures.curves import WIDE, learning_curves
from rigorl.figures.gaps import gap, switches
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess, Memory
from rigorl.spec import Experiment

WORLD = "helpers.worlds:Target-v0"
TASKS = [
    {"name": "half", "env": WORLD, "random": -1, "reference": 0},
    {"name": "less", "env": WORLD, "kwargs": {"target": -0.5}, "random": -1, "reference": 0},
    {"name": "more", "env": WORLD, "kwargs": {"target": 0.3}, "random": -1, "reference": 0},
]
ARMS = {
    "ab": TINY["arms"]["seeker"],
    "calm": {"after": "ab", "agent": {"name": "frozen", "config": {"pause": 1}}},
}
BUDGET = {"steps": 20, "exam_every": 10, "exam_episodes": 2, "dense": [1, 2, 4]}


@pytest.fixture(scope="module")
def spec() -> Experiment:
    return tiny(arms=ARMS, tasks=TASKS, budget=BUDGET, windows=[2, 12], transfer=True)


@pytest.fixture(scope="module")
def journal() -> Memory:
    return Memory()


@pytest.fixture(scope="module")
def verdict(spec: Experiment, journal: Memory, tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    storage = tmp_path_factory.mktemp("trials")
    return experiment.run(spec, InProcess(storage), journal, optuna_ask.ask)


@pytest.fixture(scope="module")
def curves(verdict: Verdict, journal: Memory) -> dict[str, list[Curve]]:
    found: dict[str, list[Curve]] = {}
    for trial in journal.trials.values():
        if trial.phase == "test":
            reports = journal.reports({trial.id})[trial.id]
            found.setdefault(trial.arm, []).append(Curve.of(trial, reports))
    return found


def hatched(figure: Any, axis: str = "") -> list[Any]:
    there = [t for t in figure.data if t.fillpattern is not None and t.fillpattern.shape]
    return [t for t in there if not axis or (t.yaxis or "y") == axis]


def test_a_placebo_has_the_colour_of_its_arm(
    spec: Experiment, curves: dict[str, list[Curve]]
) -> None:
    found = styles(spec, curves)
    assert found["calm"].color == found["ab"].color
    assert (found["ab"].is_placebo, found["calm"].is_placebo) == (False, True)
    dashes = {t.name: t.line.dash for t in learning_curves(spec, curves).data if t.name}
    assert dashes == {"ab": "solid", "calm": "dot"}


def test_a_long_question_is_read_to_its_end(
    spec: Experiment, curves: dict[str, list[Curve]]
) -> None:
    long = msgspec.structs.replace(spec, question="Does it " + "really " * 20 + "work?")
    lines = learning_curves(long, curves).layout.title.text.split("<br>")
    assert " ".join(lines) == long.question
    assert max(map(len, lines)) <= WIDE


def test_what_was_lost_is_hatched_from_the_switch_on(
    spec: Experiment, curves: dict[str, list[Curve]]
) -> None:
    figure = learning_curves(spec, curves)
    first, second = hatched(figure)  # and not the last task, nor a placebo
    mean_N = np.mean([curve.scores_TN[0] for curve in curves["ab"]], axis=0)
    learned = curves["ab"][0].learned_at_T[0]
    assert first.x[0] == 20
    assert second.x[0] == 40
    assert list(first.y) == pytest.approx(np.minimum(mean_N[learned:], mean_N[learned]).tolist())
    level = figure.data[list(figure.data).index(first) - 1]
    assert set(level.y) == {mean_N[learned]}
    assert level.line.dash == "dash"


def test_what_was_gained_is_not_hatched() -> None:
    at_N, mean_N = np.arange(4.0), np.array([0.2, 0.5, 0.3, 0.9])
    level, below = gap(Seeds(at_N, mean_N, mean_N, mean_N), 1, "x", Style("#123456", False))
    assert (list(level.x), list(level.y)) == ([1, 2, 3], [0.5, 0.5, 0.5])
    assert list(below.y) == [0.5, 0.3, 0.5]
    assert below.fill == "tonexty"
    assert gap(Seeds(at_N, mean_N, mean_N, mean_N), None, "x", Style("#123456", False)) == []


def test_the_first_updates_after_each_switch_are_seen_closely(
    spec: Experiment, curves: dict[str, list[Curve]]
) -> None:
    figure = switches(spec, curves)
    assert figure is not None
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["half, left", "less, begun", "less, left", "more, begun"]
    assert figure.layout.xaxis.type == figure.layout.xaxis4.type == "log"
    lines = [trace for trace in figure.data if trace.name == "ab"]
    assert [list(line.x)[:3] for line in lines] == [[1, 2, 4]] * 4
    assert [trace.showlegend for trace in lines] == [True, False, False, False]
    assert {(t.yaxis or "y") for t in hatched(figure)} == {"y", "y3"}, "only of tasks just left"
    before = np.mean([curve.scores_TN[0, curve.learned_at_T[0]] for curve in curves["ab"]])
    assert max(hatched(figure, "y")[0].y) <= before + 1e-9


def test_who_has_not_come_to_a_switch_is_not_seen(
    spec: Experiment, curves: dict[str, list[Curve]]
) -> None:
    early = {"ab": [curve.upto(2) for curve in curves["ab"]]}
    assert switches(spec, early) is None
    assert not hatched(learning_curves(spec, early))
    later = {"ab": [curves["ab"][0].upto(5), *curves["ab"][1:]]}
    figure = switches(spec, later)
    assert figure is not None
    assert {t.yaxis or "y" for t in figure.data} == {"y", "y2"}, "the second waits for all seeds"


def test_moments_that_differ_are_interpolated() -> None:
    found = over_seeds([([1, 3], [0.0, 2.0]), ([1, 2], [4.0, 4.0])])
    assert found.at_N.tolist() == [1, 2, 3]
    assert found.mean_N.tolist() == [2, 2.5, 3]
    assert (found.low_N.tolist(), found.high_N.tolist()) == ([0, 1, 2], [4, 4, 4])


# Cards and tables


def test_a_card_has_three_numbers_and_a_placebo_has_none(verdict: Verdict) -> None:
    (card,) = course.cards(verdict)
    measures = verdict.arms["ab"].continual
    assert card.arm == "ab"
    assert card.acc == report.estimate(measures["acc"])
    worst = [report.estimate(measures[name]) for name in ("min_acc", "wc_acc")]
    assert card.worst == " / ".join(worst)
    page = report.html(verdict, [])
    assert page.index("<div class=cards>") < page.index("Does the machinery")
    assert f"<p>{card.acc}<small>" in page


def test_the_page_has_the_placebo_beside_its_arm(verdict: Verdict) -> None:
    page = report.markdown(verdict)
    (floor,) = [part for part in page.split("\n\n") if part.startswith("| noise floor")]
    head, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in floor.split("\n")
    ]
    assert head == ["noise floor", "ab", "calm", "ab - calm"]
    told = {row[0]: row[1:] for row in rows}
    assert told["depth of the gap"][1] == "0 [0, 0]"
    assert told["depth of the gap"][0] == told["depth of the gap"][2] != "0 [0, 0]"
    assert told["worst case (WC-ACC)"][2] == "a level"
    (of_all,) = [part for part in page.split("\n\n") if part.startswith("| over the sequence")]
    assert "calm" not in of_all


def test_the_page_says_what_windows_were_and_what_transferred(verdict: Verdict) -> None:
    page = report.markdown(verdict)
    assert "- ab: a window of 2 exams took " in page
    assert "- ab: a window of 12 exams took 50 updates" in page
    assert "| learned in the sequence, not alone | gain in | half     | less" in page


def test_tables_scroll_in_a_browser_and_text_does_not(verdict: Verdict) -> None:
    page = report.html(verdict, [])
    assert page.count("<pre class=table>") == page.count("</pre>") - page.count("<pre>")
    assert "<pre class=table>| arm" in page
    assert "<pre>Read with care:" in page
