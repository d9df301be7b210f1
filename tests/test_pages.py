"""What is kept with a study that searched: a page with its pictures, and what they are drawn from."""

import json
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path

import msgspec
import pandas as pd
import plotly.io
import pytest

from rigorl import experiment, report, telling
from rigorl.analysis.importance import Importance
from rigorl.analysis.verdict import Verdict
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess
from rigorl.outside.journal import SqlJournal, at_home
from rigorl.spec import Experiment


@pytest.fixture(scope="module")
def journal(
    searching: Experiment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SqlJournal]:
    with closing(at_home(tmp_path_factory.mktemp("home"))) as kept:
        experiment.run(longer(searching), InProcess(), kept, optuna_ask.ask)
        yield kept


def longer(searching: Experiment) -> Experiment:
    arm = searching.arms["tuned"]
    search = msgspec.structs.replace(arm.search, candidates=14, generation=9)  # type: ignore[type-var]
    arms = {**searching.arms, "tuned": msgspec.structs.replace(arm, search=search)}
    return msgspec.structs.replace(searching, arms=arms)


def weighed(spec: Experiment, journal: SqlJournal) -> Verdict:
    return telling.weighed(spec, experiment.verdict(spec, journal), journal)


def test_a_search_is_shown_in_figures_and_kept_as_a_table(
    searching: Experiment, journal: SqlJournal
) -> None:
    spec = longer(searching)
    verdict = weighed(spec, journal)
    pages = telling.pages(spec, verdict, journal)
    names = ["tests", "tuned-versus-test", "tuned-candidates", "tuned-configurations"]
    names += ["switches", "tuned-importance"]
    drawn = {name for name in pages if name.startswith("figures/")}
    assert drawn == {f"figures/{name}.json" for name in names}
    for name in names:
        assert f'id="figure-{name}"' in pages["report.html"]
        assert plotly.io.from_json(pages[f"figures/{name}.json"]).data
    assert pages["report.html"] == telling.page(spec, verdict, journal)
    assert pages == telling.pages(spec, weighed(spec, journal), journal)
    exams = pd.read_csv(StringIO(pages["exams.csv"]))
    assert set(exams["candidate"].dropna()) == set(range(14))


def test_the_verdict_says_what_mattered_to_people_and_machines(
    searching: Experiment, journal: SqlJournal
) -> None:
    verdict = weighed(longer(searching), journal)
    assert verdict.arms["plain"].importance is None
    found = verdict.arms["tuned"].importance
    assert found is not None
    assert found.shares["fANOVA"] == {"rate": 1.0}  # its only dimension
    page = report.markdown(verdict)
    assert "| tuned  | rate          | 100%      | 100%   |" in page
    told = json.loads(report.as_json(verdict))
    assert told["arms"]["tuned"]["importance"]["shares"]["PED-ANOVA"] == {"rate": 1.0}


def test_too_few_candidates_are_told_in_words(searching: Experiment, tmp_path: Path) -> None:
    with closing(at_home(tmp_path)) as kept:
        experiment.run(searching, InProcess(), kept, optuna_ask.ask)
        verdict = weighed(searching, kept)
        pages = telling.pages(searching, verdict, kept)
    assert "and it takes 8 to say what mattered" in pages["report.html"]
    assert "- tuned: " in pages["verdict.md"].partition("Importance:")[2]
    assert "what mattered |" not in pages["verdict.md"]
    assert "figures/tuned-importance.json" not in pages


def test_a_method_that_says_nothing_of_a_dimension_leaves_its_cell_empty(
    searching: Experiment, journal: SqlJournal
) -> None:
    verdict = experiment.verdict(searching, journal)
    shares = {"PED-ANOVA": {"a": 0.754, "b": 0.246}, "fANOVA": {"a": 1.0}}
    weighed = Importance(candidates=9, shares=shares, note="fANOVA says nothing of b")
    arm = msgspec.structs.replace(verdict.arms["tuned"], importance=weighed)
    page = report.markdown(msgspec.structs.replace(verdict, arms={"tuned": arm}))
    assert "| tuned  | a             | 75%       | 100%   |" in page
    assert "| tuned  | b             | 25%       | -      |" in page
    assert "- tuned: fANOVA says nothing of b" in page


def test_before_anything_was_played_there_is_a_page_all_the_same(
    searching: Experiment, tmp_path: Path
) -> None:
    with closing(at_home(tmp_path)) as kept:
        page = telling.page(searching, weighed(searching, kept), kept)
    assert page.startswith("<!doctype html>")
    assert "figure-" not in page


def test_a_study_that_searches_for_nothing_has_no_such_figures(
    spec: Experiment, tmp_path: Path
) -> None:
    with closing(at_home(tmp_path)) as kept:
        experiment.run(spec, InProcess(), kept, optuna_ask.ask)
        pages = telling.pages(spec, weighed(spec, kept), kept)
    assert [name for name in pages if name.startswith("figures/")] == ["figures/tests.json"]
