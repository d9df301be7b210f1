"""What a study looks like: its tests, and what its searches did; in figures, or else in words."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import plotly.graph_objects as go

from rigorl import plan
from rigorl.analysis.curves import Curve
from rigorl.analysis.verdict import Verdict
from rigorl.figures.candidates import candidate_curves
from rigorl.figures.curves import learning_curves
from rigorl.figures.gaps import switches
from rigorl.figures.importance import importance_bars
from rigorl.figures.parallel import parallel_coordinates
from rigorl.figures.tidy import candidates
from rigorl.figures.winners import tuned_versus_test, winners
from rigorl.outside.frames import frame
from rigorl.outside.journal import SqlJournal
from rigorl.spec import Experiment


class Picture(NamedTuple):
    """A figure with words below it, or words in its place."""

    name: str
    figure: go.Figure | None
    words: str = ""


def pictures(spec: Experiment, verdict: Verdict, journal: SqlJournal) -> list[Picture]:
    """Return all there is to be seen so far."""
    return [*_tests(spec, verdict, journal), *_searches(spec, verdict, journal)]


def fragments(shown: Sequence[Picture]) -> list[str]:
    """Return *shown* as HTML that needs no other file: Plotly itself goes before the first."""
    parts, bare = [], True
    for picture in shown:
        if picture.figure is not None:
            html = picture.figure.to_html(
                full_html=False, include_plotlyjs=bare, div_id=f"figure-{picture.name}"
            )
            parts.append(str(html))
            bare = False
        if picture.words:
            parts.append(f"<p>{escape(picture.words)}</p>")
    return parts


def files(spec: Experiment, shown: Sequence[Picture], journal: SqlJournal) -> dict[str, str]:
    """Return figures for Plotly (`plotly.io.from_json`), and the table that they are drawn from."""
    drawn = {f"figures/{p.name}.json": str(p.figure.to_json()) for p in shown if p.figure}
    return drawn | {"exams.csv": frame(journal, spec).to_csv(index=False)}


def _tests(spec: Experiment, verdict: Verdict, journal: SqlJournal) -> Iterator[Picture]:
    """Yield the learning curves of the test trials, as far as they were played."""
    chosen = {name: arm.config for name, arm in verdict.arms.items() if arm.config is not None}
    ours = [t for arm in chosen for t in plan.trials(spec, arm, "test", chosen, spec.seeds.test)]
    reports = journal.reports({trial.id for trial in ours})
    curves: dict[str, list[Curve]] = {}
    for trial in ours:
        if trial.id in reports:
            curves.setdefault(trial.arm, []).append(Curve.of(trial, reports[trial.id]))
    if curves:
        several = len(spec.tasks) > 1
        yield Picture("tests", learning_curves(spec, curves), _GAPS if several else "")
        closely = switches(spec, curves) if several else None
        if closely is not None:
            yield Picture("switches", closely)


def _searches(spec: Experiment, verdict: Verdict, journal: SqlJournal) -> Iterator[Picture]:
    """Yield what searches did, an arm after another, and what came of their winners."""
    searching = {name: arm.search for name, arm in spec.arms.items() if arm.search}
    if not searching:
        return
    table = frame(journal, spec)
    if len(winners(table)):
        yield Picture("tuned-versus-test", tuned_versus_test(table), _GAP)
    for name, how in searching.items():
        found = candidates(table[table["arm"] == name])
        if len(found):
            yield Picture(f"{name}-candidates", candidate_curves(table, name))
        if (found["state"] == "finished").any():
            figure = parallel_coordinates(table, name, how.space)
            yield Picture(f"{name}-configurations", figure)
        weighed = verdict.arms[name].importance
        if weighed is not None:
            figure = importance_bars(weighed, name) if weighed.shares else None
            note = f"Importance of what {name} chose: {weighed.note}." if weighed.note else ""
            words = " ".join(filter(None, [_SHARES if figure else "", note]))
            yield Picture(f"{name}-importance", figure, words)


_GAPS = (
    "Bands reach from the lowest to the highest seed. Hatched: what the mean of an arm lost on a "
    "task since it was learned. Dotted: a placebo, which holds the final policies of the arm of "
    "its colour, and learns nothing; what it moves is noise of exams."
)
_GAP = (
    "Points below the dotted line promised more on tuning seeds than test seeds kept. Diamonds are "
    "where the scatter of candidates and seeds lets one expect them; a search has none where fewer "
    "than two candidates finished, or it had one tuning seed."
)
_SHARES = (
    "PED-ANOVA: in which dimensions the best candidates differ from all that finished. fANOVA: how "
    "much of what a forest learned of their values is the main effect of each."
)
