"""Figures of searches, from tables written by hand."""

import math
from typing import Any

import msgspec
import pytest

from helpers.exams import exams, table
from rigorl.analysis.importance import Importance
from rigorl.figures.candidates import candidate_curves
from rigorl.figures.importance import importance_bars
from rigorl.figures.parallel import parallel_coordinates
from rigorl.figures.tidy import candidates, curves
from rigorl.figures.winners import tuned_versus_test, winners
from rigorl.pictures import Picture, fragments
from rigorl.space import Space

WON = {"winner": True}
SEARCHED = table(
    exams(0, (1.0, 1.0, 1.0, 1.0), (3.0, 3.0, 3.0, 3.0)),
    exams(1, (1.0, 2.0, 4.0, 6.0), (2.0, 4.0, 6.0, 8.0), **WON),
    exams(2, (0.0, 0.0), (1.0, 3.0), state="pruned"),
    exams(3, (0.0, 0.0, 5.0, 5.0), (9.0,), state="pruned"),  # stopped on its second seed
    exams(4, (0.5,), (), state="failed"),
    exams(1, (0.0, 0.0, 0.0, 3.0), (0.0, 0.0, 0.0, 7.0), (0.0, 0.0), phase="test", **WON),
)


def traces(figure: Any, kind: str) -> tuple[Any, Any]:
    lines, ends = (trace for trace in figure.data if trace.name == kind)
    return lines, ends


def test_a_curve_is_the_mean_where_all_seeds_of_a_candidate_were() -> None:
    found = curves(SEARCHED)
    of = {n: found[found["candidate"] == n] for n in range(5)}
    assert list(of[1]["value"]) == [1.5, 3.0, 5.0, 7.0]
    assert list(of[1]["total"]) == [10, 20, 30, 40]
    assert list(of[2]["value"]) == [0.5, 1.5]
    assert list(of[3]["value"]) == [4.5]
    assert list(of[4]["value"]) == [0.5]
    assert list(candidates(SEARCHED)["value"]) == [2.0, 7.0, 1.5, 4.5, 0.5]


def test_who_won_stands_out_and_who_was_stopped_ends_with_a_mark() -> None:
    figure = candidate_curves(SEARCHED, "a")
    line, end = traces(figure, "winner")
    assert list(line.x) == [10, 20, 30, 40, None]
    assert list(line.y) == [1.5, 3, 5, 7, None]
    assert [x for x in end.x if x is not None] == [40]
    assert "candidate 1 (finished, 2 seeds)" in line.text[0]
    line, end = traces(figure, "pruned")
    assert list(line.x) == [10, 20, None, 10, None]
    assert list(end.x) == [20, None, 10, None]
    assert end.marker.symbol == "x"
    assert list(traces(figure, "failed")[1].y) == [0.5, None]
    assert list(traces(figure, "as it comes")[0].y) == [2, 2, 2, 2, None]
    widths = {kind: traces(figure, kind)[0].line.width for kind in ("winner", "pruned")}
    assert widths["winner"] > widths["pruned"]
    assert [shape.x0 for shape in figure.layout.shapes] == [20]


def test_each_search_has_a_panel_and_each_kind_one_entry_in_the_legend() -> None:
    again = exams(0, (1.0, 1.0), (3.0, 3.0), search=1)
    figure = candidate_curves(table(exams(0, (1.0, 2.0), (1.0, 2.0)), again), "a")
    assert [note.text for note in figure.layout.annotations] == ["search 0", "search 1"]
    assert [trace.name for trace in figure.data if trace.showlegend] == ["as it comes"]


def test_winners_by_hand() -> None:
    (row,) = winners(SEARCHED).to_dict("records")
    assert (row["tuned"], row["test"], row["seeds"]) == (7.0, 5.0, 2)
    assert row["error"] == pytest.approx(math.sqrt(8) / math.sqrt(2))
    # means 2 and 7, variance 2 over seeds: 12.5 seen, of which 1 is luck; the mean of all is 4.5
    assert row["expected"] == pytest.approx(4.5 + 11.5 / 12.5 * 2.5)


def test_a_winner_is_a_point_with_its_luck_and_a_diagonal() -> None:
    figure = tuned_versus_test(SEARCHED)
    point = next(trace for trace in figure.data if trace.name == "a")
    assert (list(point.x), list(point.y)) == ([7.0], [5.0])
    (line,) = [trace for trace in figure.data if trace.name == "no gap"]
    assert list(line.x) == list(line.y)
    assert line.x[0] < 5
    assert line.x[1] > 7
    expected = next(t for t in figure.data if t.name == "a: expected, given luck")
    assert list(expected.y) == [pytest.approx(6.8)]


def test_where_luck_is_not_known_and_one_seed_tells_no_error_the_point_stands() -> None:
    one = table(exams(0, (1.0, 2.0), **WON), exams(0, (1.0, 4.0), phase="test", **WON))
    (row,) = winners(one).to_dict("records")
    assert math.isnan(row["expected"])
    assert math.isnan(row["error"])
    assert tuned_versus_test(one).data


def test_who_is_not_tested_yet_is_no_point() -> None:
    half = table(exams(0, (1.0, 2.0), **WON), exams(0, (1.0,), phase="test", **WON))
    assert len(winners(half)) == 0
    assert len(winners(table(exams(0, (1.0, 2.0), **WON)))) == 0


SPACE = msgspec.convert(
    {
        "lr": {"kind": "real", "low": 1e-4, "high": 1e-2, "log": True},
        "n": {"kind": "integer", "low": 2, "high": 10},
        "net": {"kind": "choice", "of": ["mlp", "cnn"]},
        "kernel": {"kind": "integer", "low": 1, "high": 5, "when": {"net": "cnn"}},
        "norm": {"kind": "choice", "of": [True, False], "when": {"net": "cnn"}},
    },
    Space,
)


def configured(number: int, value: float, state: str = "finished", **config: Any) -> Any:
    named = {f"config.{name}": value for name, value in config.items()}
    return exams(number, (value, value), (value, value), state=state, **named)


def parallel() -> Any:
    mlp = configured(0, 1.0, lr=1e-3, n=2, net="mlp")
    cnn = configured(1, 2.0, lr=1e-4, n=10, net="cnn", kernel=5, norm=False)
    stopped = configured(2, 9.0, "pruned", lr=1e-4, n=3, net="mlp")
    same = [{**row, "search": 1} for row in mlp]
    frame = table(mlp, cnn, stopped, same).astype({"config.n": "Int64", "config.kernel": "Int64"})
    return parallel_coordinates(frame, "a", SPACE)


def test_configurations_that_finished_are_lines_coloured_by_value() -> None:
    figure = parallel()
    (lines,) = figure.data
    assert list(lines.line.color) == [1.0, 2.0]
    assert [axis.label for axis in lines.dimensions] == [*SPACE, "value"]
    assert list(lines.dimensions[-1]["values"]) == [1.0, 2.0]
    assert figure.layout.title.text == "Configurations of a: 2 that finished, of 4"


def test_log_scales_choices_and_what_is_absent_have_places_of_their_own() -> None:
    lr, n, net, kernel, norm, _ = parallel().data[0].dimensions
    assert list(lr["values"]) == pytest.approx([-3, -4])
    assert list(lr.range) == pytest.approx([-4, -2])
    assert dict(zip(lr.ticktext, lr.tickvals, strict=True))["0.001"] == pytest.approx(-3)
    assert list(n["values"]) == [2, 10]
    assert list(net["values"]) == [0, 1]
    assert list(net.ticktext) == ["mlp", "cnn"]
    assert kernel["values"][0] == kernel.range[0] < 1
    assert kernel["values"][1] == 5
    assert kernel.ticktext[0] == "absent"
    assert list(norm.ticktext) == ["absent", "True", "False"]
    assert list(norm["values"]) == [0, 2]


def test_an_axis_is_as_long_as_the_arm_as_it_comes_needs() -> None:
    frame = table(
        configured(0, 1.0, lr=1.0, n=64, net="rnn"), configured(1, 2.0, lr=1e-3, n=4, net="mlp")
    )
    space = {name: SPACE[name] for name in ("lr", "n", "net")}
    lr, n, net, _ = parallel_coordinates(frame, "a", space).data[0].dimensions
    assert list(lr.range) == pytest.approx([-4, 0])
    assert list(n.range) == [2, 64]
    assert list(net.ticktext) == ["mlp", "cnn", "rnn"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {"kind": "real", "low": 1e-6, "high": 1e-1, "log": True},
            ["1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1"],
        ),
        (
            {"kind": "integer", "low": 16, "high": 256, "log": True},
            ["16", "20", "50", "100", "200", "256"],
        ),
        ({"kind": "integer", "low": 1, "high": 3}, ["1", "2", "3"]),
        ({"kind": "real", "low": 0.8, "high": 0.9999}, ["0.8", "0.85", "0.9", "0.95", "0.9999"]),
    ],
)
def test_marks_of_an_axis_are_round_numbers_between_its_ends(
    said: Any, expected: list[str]
) -> None:
    space = msgspec.convert({"x": said}, Space)
    frame = table(configured(0, 1.0, x=said["low"]), configured(1, 1.0, x=said["high"]))
    axis = parallel_coordinates(frame, "a", space).data[0].dimensions[0]
    assert list(axis.ticktext) == expected
    assert list(axis.tickvals) == sorted(axis.tickvals)


def test_bars_have_the_largest_share_on_top_and_none_where_nothing_is_said() -> None:
    shares = {"PED-ANOVA": {"a": 0.2, "b": 0.7, "c": 0.1}, "fANOVA": {"a": 0.1, "b": 0.9}}
    figure = importance_bars(Importance(candidates=20, shares=shares), "x")
    ped, fanova = figure.data
    assert list(ped.y) == ["c", "a", "b"]  # from below
    assert list(ped.x) == [0.1, 0.2, 0.7]
    assert list(fanova.y) == ["a", "b"]


def test_plotly_goes_once_before_the_first_figure_and_words_stand_without_one() -> None:
    figure = importance_bars(Importance(candidates=9, shares={"fANOVA": {"a": 1.0}}), "x")
    shown = [Picture("none", None, "too < few"), Picture("one", figure), Picture("two", figure)]
    words, first, second = fragments(shown)
    assert words == "<p>too &lt; few</p>"
    assert len(first) > 1_000_000 > len(second)
    assert 'id="figure-two"' in second
