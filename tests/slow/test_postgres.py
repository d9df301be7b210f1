"""On PostgreSQL the journal keeps the promises that it keeps in a file."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from conftest import tiny
from helpers.postgres import Postgres
from rigorl import experiment, plan
from rigorl.errors import JournalError
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess, Memory
from rigorl.outside.journal import (
    SqlJournal,
    database,
    export_study,
    import_study,
    lease,
    read_study,
)
from rigorl.outside.journal.tables import meta
from rigorl.spec import Experiment
from test_journal import (  # noqa: F401  the same tests, on this journal
    test_another_content_under_the_same_key_is_refused,
    test_failures_that_need_not_last_are_forgotten_at_the_next_run,
    test_the_same_again_is_no_news,
    test_what_was_proposed_is_known_again,
    test_what_was_recorded_is_told_in_its_order,
    trials,
)
from test_lease import (  # noqa: F401
    one,
    other,
    test_a_second_driver_is_refused_while_the_first_lives,
    test_a_study_says_how_it_ended,
    test_one_elsewhere_is_watched_and_replaced_if_it_is_still,
    test_who_was_taken_for_dead_writes_nothing_more,
    trial,
)
from test_why import (  # noqa: F401
    test_a_trial_says_what_it_waits_for_until_it_begins,
    test_no_sign_of_life_for_a_minute_is_said,
    test_troubles_are_told_in_their_order_with_the_attempt_and_its_host,
    test_what_rests_on_others_says_on_whom,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    postgres = Postgres(tmp_path_factory.mktemp("pg"))
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture
def url(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of an empty database."""
    monkeypatch.setattr(lease, "BEAT", 0.05)
    monkeypatch.setattr(lease, "WATCH", 0.5)
    emptying = database.Database(server.url)
    emptying.write(meta.drop_all)
    emptying.write(lambda db: db.exec_driver_sql("DROP TABLE IF EXISTS rigorl_alembic"))
    emptying.close()
    return server.url


@pytest.fixture
def journal(url: str) -> Iterator[SqlJournal]:
    with closing(SqlJournal(url)) as kept:
        yield kept


def test_a_study_is_the_same_text_in_a_file_and_on_a_server(
    journal: SqlJournal, searching: Experiment, tmp_path: Path
) -> None:
    with closing(SqlJournal(f"sqlite:///{tmp_path}/journal.db")) as file:
        for kept in (journal, file):
            kept.begin(searching, experiment.codes(searching))
            experiment.run(searching, InProcess(), kept, optuna_ask.ask)
            kept.end("done")
        lines = list(export_study(file, "tiny"))
        assert list(export_study(journal, "tiny")) == lines
        import_study(journal, read_study(lines))
    assert list(export_study(journal, "tiny")) == lines


def test_a_server_that_is_killed_and_comes_back_changes_nothing(
    server: Postgres, journal: SqlJournal, searching: Experiment
) -> None:
    """Its connections are gone, what was committed is not: the run goes on."""
    undisturbed = Memory()
    expected = experiment.run(searching, InProcess(), undisturbed, optuna_ask.ask)
    journal.begin(searching, experiment.codes(searching))
    left = [30]

    def killing(of: Any, events: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            server.kill()
            server.start()
        record(of, events)

    record, journal.record = journal.record, killing  # type: ignore[method-assign]
    assert experiment.run(searching, InProcess(), journal, optuna_ask.ask) == expected
    assert left[0] < 0
    assert dict(journal.standings("tiny")) == undisturbed.standings("tiny")


def test_a_server_that_stays_away_is_given_up_in_words(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.5)
    away = url.replace("host=", f"host={tmp_path}")
    with pytest.raises(JournalError, match="the journal must be a database one can read"):
        SqlJournal(away)


def test_a_database_that_is_not_there_is_not_waited_for(url: str) -> None:
    with pytest.raises(JournalError, match="create it first, or correct the URL"):
        SqlJournal(url.replace("/postgres?", "/nowhere?"))


def test_a_password_is_never_shown(url: str) -> None:
    secret = url.replace("rigorl@", "rigorl:hush@")
    with closing(SqlJournal(secret)) as journal:
        assert "hush" not in journal.name
        with pytest.raises(JournalError) as caught:
            journal.database.write(lambda db: db.execute(sa.text("SELECT nothing FROM nowhere")))
        assert "hush" not in str(caught.value)


def test_two_that_open_an_empty_database_at_once_both_may(url: str) -> None:
    spec = tiny()
    with closing(SqlJournal(url)) as a, closing(SqlJournal(url)) as b:
        a.begin(spec)
        assert b.names() == ["tiny"]
        assert plan.trials(spec, "seeker", "test", {}, (0,))
