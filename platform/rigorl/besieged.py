"""What arms come to under attack, as tables."""

from collections.abc import Iterator, Mapping

from rigorl.analysis.lessons import Told
from rigorl.analysis.robust import PAIRED
from rigorl.analysis.statistics import Estimate
from rigorl.analysis.verdict import Verdict
from rigorl.cells import estimate, listed, number, table

MEASURES = {
    "nominal": "nominal return",
    "nominal_fell": "falls",
    "auc": "robust AUC",
    "auc_fell": "falls under attack",
    "ratio": "worst cost / force",
    "energy_ratio": "worst cost / force^2",
    "slack": "slack",
}
COMPARED = {name: MEASURES[name] for name in PAIRED}


def tables(verdict: Verdict) -> Iterator[str]:
    """Yield what there is to tell of arms that others attack: a row an arm and task."""
    found = [
        (arm, task, one) for arm, what in verdict.arms.items() for task, one in what.robust.items()
    ]
    if not found:
        return
    rows = [[arm, task, *_cells(one.measures, MEASURES)] for arm, task, one in found]
    yield "## Under attack"
    yield table(["under attack, mean [95 %]", "on", *MEASURES.values()], rows)
    pairs = [
        [f"{pair.a} - {pair.b}", task, *_cells(told, COMPARED)]
        for pair in verdict.pairs
        for task, told in pair.robust.items()
    ]
    if pairs:
        yield table(["difference, seed by seed [95 %]", "on", *COMPARED.values()], pairs)
    strengths = [
        [
            arm,
            task,
            number(one.strength),
            *(_cell(x.mean) for x in (one.earned, one.fell, one.cost)),
        ]
        for arm, task, what in found
        for one in what.levels
    ]
    head = ["worst attacker of", "on", "share of the limit", "return", "falls", "cost"]
    yield table(head, strengths)
    yield listed("Swinging forces, root of cost / force^2", _responses(verdict))


def _responses(verdict: Verdict) -> Iterator[str]:
    for arm, what in verdict.arms.items():
        for task, one in what.robust.items():
            if one.response:
                told = ", ".join(f"{_cell(x.mean)} at {at}" for at, x in one.response.items())
                yield f"{arm} on {task}, by period in steps: {told}"


def _cells(told: Mapping[str, Told], names: Mapping[str, str]) -> list[str]:
    return [_cell(told[name].mean) if name in told else "-" for name in names]


def _cell(one: Estimate) -> str:
    return "-" if one.seeds == 0 else estimate(one)
