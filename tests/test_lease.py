"""One driver at a time, whatever becomes of the one before."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from rigorl import plan
from rigorl.errors import JournalError
from rigorl.outside.journal import SqlJournal, lease
from rigorl.outside.journal.lease import Holder, Lease, myself
from rigorl.outside.journal.tables import leases
from rigorl.spec import Experiment
from rigorl.trial import Beat, Trial


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT", 0.02)
    monkeypatch.setattr(lease, "WATCH", 0.2)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/journal.db"


@pytest.fixture
def one(url: str) -> Iterator[SqlJournal]:
    journal = SqlJournal(url)
    yield journal
    journal.close()


@pytest.fixture
def other(url: str) -> Iterator[SqlJournal]:
    journal = SqlJournal(url)
    yield journal
    journal.close()


@pytest.fixture
def trial(spec: Experiment) -> Trial:
    return plan.trials(spec, "seeker", "test", {}, (0,))[0]


def hold(journal: SqlJournal, holder: Holder) -> None:
    """Let *holder* have the lease, and never beat."""
    name = msgspec.json.encode(holder).decode()
    row = {"study": "tiny", "holder": name, "fence": 7, "beats": 3}
    journal.database.write(lambda db: db.execute(leases.insert().values(row)))


def fence(journal: SqlJournal) -> int:
    return int(journal.database.read(lambda db: db.scalar(sa.select(leases.c.fence))) or 0)


def test_a_second_driver_is_refused_while_the_first_lives(
    one: SqlJournal, other: SqlJournal, spec: Experiment
) -> None:
    one.begin(spec)
    with pytest.raises(JournalError, match=r"'tiny' is being driven by process \d+ on"):
        other.begin(spec)
    one.end("done")
    other.begin(spec)
    assert fence(other) == 2


def test_another_study_has_a_driver_of_its_own(
    one: SqlJournal, other: SqlJournal, spec: Experiment
) -> None:
    one.begin(spec)
    other.begin(msgspec.structs.replace(spec, name="other"))
    assert [other.state(name) for name in ("tiny", "other")] == ["running", "running"]


def test_one_that_ended_on_this_machine_is_not_waited_for(
    one: SqlJournal, spec: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "WATCH", 1e9)
    me = myself()
    for gone in (
        msgspec.structs.replace(me, pid=2**22 + 1),
        msgspec.structs.replace(me, born=me.born - 1),  # another process had this number
        msgspec.structs.replace(me, boot="before the power went"),
    ):
        assert gone.is_gone()
        hold(one, gone)
        one.begin(spec)
        assert fence(one) == 8
        one.end(None)
        one.database.write(lambda db: db.execute(leases.delete()))


def test_one_elsewhere_is_watched_and_replaced_if_it_is_still(
    one: SqlJournal, spec: Experiment
) -> None:
    elsewhere = msgspec.structs.replace(myself(), host="elsewhere")
    assert not elsewhere.is_gone()
    hold(one, elsewhere)
    one.begin(spec)
    assert fence(one) == 8


def test_who_was_taken_for_dead_writes_nothing_more(
    one: SqlJournal, other: SqlJournal, spec: Experiment, trial: Trial
) -> None:
    one.begin(spec)
    asleep = leases.update().values(
        holder=msgspec.json.encode(msgspec.structs.replace(myself(), pid=2**22 + 1)).decode()
    )
    one.database.write(lambda db: db.execute(asleep))
    other.begin(spec)
    beat = Beat(trial=trial.id, stage=0, step=1, update=1)
    with pytest.raises(JournalError, match="another one has taken over 'tiny'"):
        one.record([trial], [beat])
    assert other.states("tiny") == []
    one.end("failed")  # nor does it say how the other one's study ends
    assert other.state("tiny") == "running"
    other.record([trial], [beat])


def test_a_study_says_how_it_ended(one: SqlJournal, other: SqlJournal, spec: Experiment) -> None:
    assert other.state("tiny") == ""
    one.begin(spec)
    assert other.state("tiny") == "running"
    one.end("done")
    assert other.state("tiny") == "done"
    one.begin(spec)
    one.close()
    assert other.state("tiny") == "stopped"
    one.begin(spec)
    gone = msgspec.json.encode(msgspec.structs.replace(myself(), pid=2**22 + 1)).decode()
    one.database.write(lambda db: db.execute(leases.update().values(holder=gone)))
    assert other.state("tiny") == "died"


def test_of_two_that_take_it_at_once_one_gets_it_and_may_ask_twice(
    one: SqlJournal, other: SqlJournal
) -> None:
    mine, theirs = Lease(one.database, "tiny"), Lease(other.database, "tiny")
    for before in (None, "a holder that let go"):
        found = lease.look(one.database, "tiny")
        assert (found is None) == (before is None)
        taken = [one.database.write(lambda db, was=found: mine._seize(db, was)) for _ in range(2)]
        assert taken[0] == taken[1], "an answer that was lost is no other driver"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                lease, "myself", partial(msgspec.structs.replace, myself(), host="elsewhere")
            )
            with pytest.raises(JournalError, match="another one took 'tiny' just now"):
                other.database.write(lambda db, was=found: theirs._seize(db, was))
        one.database.write(lambda db: db.execute(leases.update().values(holder=None)))
