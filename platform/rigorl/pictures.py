"""What a study looks like: its tests, and what its searches did; in figures, or else in words."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import plotly.graph_objects as go

from rigorl import plan
from rigorl.analysis.curves import Curve
from rigorl.analysis.robust import is_attack
from rigorl.analysis.verdict import Verdict
from rigorl.figures import robust
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
from rigorl.trial import Report, Trial


class Picture(NamedTuple):
    """A figure with words below it, or words in its place."""

    name: str
    figure: go.Figure | None
    words: str = ""


def pictures(spec: Experiment, verdict: Verdict, journal: SqlJournal) -> list[Picture]:
    """Return all there is to be seen so far."""
    parts = (_tests, _attacks, _searches)
    return [picture for part in parts for picture in part(spec, verdict, journal)]


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
    curves = {
        arm: [Curve.of(trial, reports) for trial, reports in told]
        for arm, told in _told(spec, verdict, journal).items()
        if not is_attack(spec, arm)  # what pushed policies earn is told under attack
    }
    if curves:
        several = len(spec.tasks) > 1
        yield Picture("tests", learning_curves(spec, curves), _GAPS if several else "")
        closely = switches(spec, curves) if several else None
        if closely is not None:
            yield Picture("switches", closely)


def _attacks(spec: Experiment, verdict: Verdict, journal: SqlJournal) -> Iterator[Picture]:
    """Yield what arms come to under attack, and what a bound on their gain cost them."""
    told = _told(spec, verdict, journal)
    prices = robust.prices(spec, {a: [reports for _, reports in one] for a, one in told.items()})
    for name, figure, words in (
        ("strengths", robust.strengths(spec, verdict), _WORST),
        ("directions", robust.directions(spec, verdict), _AROUND),
        ("prices", prices, _PRICES),
    ):
        if figure is not None:
            yield Picture(name, figure, words)


def _told(
    spec: Experiment, verdict: Verdict, journal: SqlJournal
) -> dict[str, list[tuple[Trial, Sequence[Report]]]]:
    """Return, by arm, the test trials that have been played, and what they said so far."""
    chosen = {name: arm.config for name, arm in verdict.arms.items() if arm.config is not None}
    ours = [t for arm in chosen for t in plan.trials(spec, arm, "test", chosen, spec.seeds.test)]
    reports = journal.reports({trial.id for trial in ours})
    found: dict[str, list[tuple[Trial, Sequence[Report]]]] = {}
    for trial in ours:
        if trial.id in reports:
            found.setdefault(trial.arm, []).append((trial, reports[trial.id]))
    return found


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
_WORST = (
    "Of several attackers the one that costs most counts, at each share of the limit by itself; 0 "
    "is the policy alone. Bands reach from the lowest to the highest seed."
)
_AROUND = (
    "At the greatest strength, the worst over bodies and durations, as a mean over seeds. Degrees "
    "count from the first of the port's axes towards the second."
)
_PRICES = (
    "Lambda is the price, in reward, of a unit of gain; slack is 1 - ratio / eta, and below 0 the "
    "bound is broken. Bands reach from the lowest to the highest seed."
)
