"""An older journal is brought up to date, a newer one is left alone."""

from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from rigorl import experiment, plan
from rigorl.errors import JournalError
from rigorl.outside import optuna_ask
from rigorl.outside.in_process import InProcess, Memory
from rigorl.outside.journal import SqlJournal, schema
from rigorl.outside.journal.database import Database
from rigorl.outside.journal.tables import VERSION_TABLE, meta
from rigorl.spec import Experiment

FIRST = """
CREATE TABLE rigorl_studies (name VARCHAR(200) NOT NULL PRIMARY KEY, spec TEXT NOT NULL, at BIGINT NOT NULL);
CREATE TABLE rigorl_trials (id VARCHAR(16) NOT NULL PRIMARY KEY, study VARCHAR(200) NOT NULL, body TEXT NOT NULL);
CREATE INDEX ix_rigorl_trials_study ON rigorl_trials (study);
CREATE TABLE rigorl_batches (id INTEGER NOT NULL PRIMARY KEY, at BIGINT NOT NULL);
CREATE TABLE rigorl_reports (seq INTEGER NOT NULL PRIMARY KEY, batch INTEGER NOT NULL, trial VARCHAR(16) NOT NULL,
 stage INTEGER NOT NULL, step BIGINT NOT NULL, "update" BIGINT NOT NULL, finished BOOLEAN NOT NULL, body BLOB NOT NULL,
 UNIQUE (trial, stage, step, "update"));
CREATE TABLE rigorl_failures (trial VARCHAR(16) NOT NULL PRIMARY KEY, lasting BOOLEAN NOT NULL, body BLOB NOT NULL);
CREATE TABLE rigorl_beats (trial VARCHAR(16) NOT NULL PRIMARY KEY, stage INTEGER NOT NULL, step BIGINT NOT NULL,
 "update" BIGINT NOT NULL, at BIGINT NOT NULL);
CREATE TABLE rigorl_candidates (search VARCHAR(16) NOT NULL, number INTEGER NOT NULL, config TEXT NOT NULL,
 PRIMARY KEY (search, number));
CREATE TABLE rigorl_mirrored (target VARCHAR(400) NOT NULL, what VARCHAR(200) NOT NULL, run VARCHAR(64) NOT NULL,
 seq INTEGER NOT NULL, PRIMARY KEY (target, what))
"""
"""What the first version made, word for word."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/journal.db"


def fill(url: str, spec: Experiment, played: Memory) -> None:
    """Write what was *played* as the first version did."""
    database = Database(url)

    def write(db: sa.Connection) -> None:
        for statement in FIRST.split(";"):
            db.exec_driver_sql(statement)
        db.exec_driver_sql("INSERT INTO rigorl_batches VALUES (1, 1234)")
        text = msgspec.json.encode(spec).decode()
        db.exec_driver_sql("INSERT INTO rigorl_studies VALUES (?, ?, ?)", (spec.name, text, 1))
        for trial in played.trials.values():
            body = msgspec.json.encode(trial).decode()
            db.exec_driver_sql(
                "INSERT INTO rigorl_trials VALUES (?, ?, ?)", (trial.id, spec.name, body)
            )
        for report in (r for told in played.told.values() for r in told.values()):
            body_ = msgspec.msgpack.encode(report, order="deterministic")
            key = (report.trial, report.stage, report.step, report.update, report.finished)
            db.exec_driver_sql(
                "INSERT INTO rigorl_reports VALUES (NULL, 1, ?, ?, ?, ?, ?, ?)", (*key, body_)
            )

    database.write(write)
    database.close()


def columns(journal: SqlJournal) -> dict[str, set[str]]:
    def look(db: sa.Connection) -> dict[str, set[str]]:
        seen = sa.inspect(db)
        return {
            name: {f"{c['name']} {c['type']} {c['nullable']}" for c in seen.get_columns(name)}
            for name in seen.get_table_names()
        }

    return journal.database.read(look)


def test_an_older_journal_is_brought_up_to_date_and_nothing_is_lost(
    url: str, tmp_path: Path, searching: Experiment
) -> None:
    played = Memory()
    verdict = experiment.run(searching, InProcess(), played, optuna_ask.ask)
    fill(url, searching, played)
    with closing(SqlJournal(url)) as journal, closing(SqlJournal(f"{url}.new")) as fresh:
        assert columns(journal) == columns(fresh)
        assert set(columns(fresh)) == {*meta.tables, VERSION_TABLE}
        assert journal.standings("tiny") == played.standings("tiny")
        assert journal.reports(played.told.keys()) == {
            id_: list(told.values()) for id_, told in played.told.items()
        }
        assert {row.at for row in journal.rows(study="tiny")} == {1234}
        finished = {s.trial.id for s in journal.states("tiny") if s.finished}
        assert finished == {id_ for id_, s in played.standings("tiny").items() if s.finished}
        with pytest.raises(JournalError, match="--accept-code keeps them"):
            journal.begin(searching, experiment.codes(searching))  # nobody noted their code
        journal.begin(searching, experiment.codes(searching), accept=True)
        assert experiment.run(searching, InProcess(), journal, optuna_ask.ask) == verdict
    with closing(SqlJournal(url)) as journal:
        journal.begin(searching, experiment.codes(searching))  # once accepted, it stays so


def test_a_newer_journal_is_left_alone(url: str, spec: Experiment) -> None:
    with closing(SqlJournal(url)) as journal:
        journal.begin(spec)
        journal.database.write(
            lambda db: db.execute(schema.version_table.update().values(version_num="999"))
        )
    with pytest.raises(JournalError, match=r"is of version 999 .* knows up to 3"):
        SqlJournal(url)


def test_a_migration_that_fails_leaves_the_journal_as_it_was(
    url: str, searching: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(url, searching, Memory())
    database = Database(url)
    before = database.read(lambda db: sorted(sa.inspect(db).get_table_names()))
    database.write(lambda db: db.exec_driver_sql("DROP TABLE rigorl_beats"))  # v2 will miss it
    with pytest.raises(JournalError):
        SqlJournal(url)
    after = database.read(lambda db: sorted(sa.inspect(db).get_table_names()))
    assert after == [name for name in before if name != "rigorl_beats"]
    assert database.read(schema.version_of) == schema.FIRST
    database.close()


def test_every_version_has_its_step() -> None:
    steps = (schema.MIGRATIONS / "versions").glob("v*.py")
    assert sorted(path.name.split("_")[0] for path in steps) == [f"v{n}" for n in schema.VERSIONS]
    assert plan.UNIFORM
