"""The front door's verbs about a study that another machine plays.

Each is a generator: it yields what stdout is to show, and returns the exit code.
"""

import argparse
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rigorl import accounts, following, opening, report, telling
from rigorl.errors import (
    IncompleteResults,
    JobError,
    RigorlError,
    SpecError,
    Stopped,
)
from rigorl.following import LOOK_S
from rigorl.hiding import shown
from rigorl.outside import bucket, yaml_file
from rigorl.outside.journal import SqlJournal, ask_to_stop
from rigorl.outside.on_ray import jobs, order, probe, refusals
from rigorl.outside.on_ray.dashboard import Away, Client, connect
from rigorl.outside.on_ray.order import Order
from rigorl.outside.on_ray.tail import tail

Talk = Generator[str, None, int]
DONE, FAILED = 0, 1
TERMINATED = 143
ENDS = {"done": DONE, "failed": FAILED, "stopped": TERMINATED}
log = logging.getLogger("rigorl")
STOP_S = order.STOP_S + 30.0
"""Seconds that `stop` waits for the end."""


def submit(args: argparse.Namespace) -> Talk:
    """Let a cluster play the study, once: attach to a job that plays it already."""
    wanted = _order(args)
    order.check_secrets(wanted)
    _check_what_is_here(wanted)
    client = connect(args.address)
    job, attempts = jobs.running(client, wanted)
    if job is None:
        id_, where = yield from _send(client, wanted, attempts + 1)
    else:
        id_, where = job.id, wanted.places
        yield f"{id_}: attached: it is {job.state.lower()} already, and is not sent twice"
    args.journal = where.get("journal", "")
    args.home = Path(("" if args.journal else where.get("home")) or ".rigorl")
    yield telling.distant_steps(args)
    return (yield from _wait(args, client, id_, wanted.spec.name)) if args.wait else DONE


def _send(
    client: Client, wanted: Order, attempt: int
) -> Generator[str, None, tuple[str, dict[str, str]]]:
    with jobs.Load(client, wanted) as load:
        facts = load.probe()
        for remark in refusals.judge(wanted, facts, probe.fingerprint()):
            yield f"{wanted.spec.name}: {remark}"
        id_, ours = load.submit(attempt, facts)
    again = f", attempt {attempt}: it goes on where it was" if attempt > 1 else ""
    yield f"{id_}: submitted{again}" if ours else f"{id_}: attached: it was sent at this moment"
    where = {"home": facts["home"], "journal": facts["journal"]} | wanted.places
    if facts["file"] == f"{facts['home']}/journal.db":  # there `--home` alone finds it
        del where["journal"]
    return id_, where


def _order(args: argparse.Namespace) -> Order:
    spec = yaml_file.read(args.spec, args.set)
    home = args.home or (".rigorl" if args.keep_on_head else "")
    return Order(
        spec=spec,
        file=args.spec,
        changes=tuple(args.set),
        journal=order.whole(args.journal),
        home=order.absolute(home),
        storage=order.absolute(getattr(args, "storage", "")),
        mlflow=args.mlflow,
        accept_code=args.accept_code,
        shipped=tuple(args.shipped),
        env=args.env,
        image=args.image,
        code=args.code,
        keep_on_head=args.keep_on_head,
    )


def _check_what_is_here(wanted: Order) -> None:
    """Refuse what cannot be played; what only the cluster can import, only it can check."""
    if probe.is_url(wanted.home):
        raise SpecError(
            f"home must be a folder, but is {shown(wanted.home)}; an object store is named with "
            "--storage, a database with --journal"
        )
    if probe.is_url(wanted.storage):
        bucket.address(wanted.storage)
    if wanted.image and (wanted.shipped or wanted.code or wanted.env == "lock"):
        raise JobError(
            "Ray starts a container with nothing of ours in it, so --image must stand alone, but "
            "--with, --code or --env lock stands beside it; put these into the image"
        )
    strange = [name for name in wanted.modules if not probe.is_there(name)]
    remarks = [] if strange else opening.check(wanted.spec, wanted.file)
    for remark in [*remarks, *(f"{name} is not here, and is imported there" for name in strange)]:
        log.warning("%s", remark)


def _wait(args: argparse.Namespace, client: Client, id_: str, study: str) -> Talk:
    """Follow a job to its end, and return what its command returned."""
    try:
        yield from _tail(args, client, id_, study)
    except Stopped:
        log.warning("only the following ended; the job goes on")
        raise
    try:
        job = jobs.info(client, id_)
    except Away:
        with closing(opening.known_journal(args)) as journal:
            state = journal.state(study)
        yield f"{id_}: the cluster is gone; the journal says: {state}"
        return ENDS.get(state, FAILED)
    if job.state == "STOPPED":
        return TERMINATED
    if job.code is None and job.state == "FAILED":
        raise JobError(f"a job must come to its end, but {id_} was lost: {job.message}")
    return FAILED if job.code is None or job.code < 0 else job.code


def _tail(args: argparse.Namespace, client: Client, id_: str, study: str) -> Iterator[str]:
    """Yield what a job prints; when the cluster is gone, what the journal has after that."""
    last: deque[str] = deque(maxlen=100)
    try:
        for line in tail(client, id_):
            last.append(line)
            yield line
    except Away as gone:
        log.warning("%s", gone)
        try:
            journal = opening.known_journal(args)
        except RigorlError:
            raise gone from None
        if study not in journal.names():  # it is another one
            journal.close()
            raise
        log.warning("what follows is from the journal, %s", journal.name)
        with closing(journal):
            yield from following.words(journal, study, follow=True, seen=last)


def logs(args: argparse.Namespace) -> Talk:
    """Tell what the driver says: from the cluster's job, or from the journal."""
    study = yaml_file.read(args.spec, args.set).name
    if args.address:
        client = connect(args.address)
        known = jobs.of_study(client, study)
        if known and args.follow:
            yield from _tail(args, client, known[-1].id, study)
            return DONE
        if known:
            yield client.get_job_logs(known[-1].id).rstrip("\n")
            return DONE
        log.warning("the cluster knows no job of %r; what follows is from the journal", study)
    with closing(_journal_to_come(args) if args.follow else opening.known_journal(args)) as journal:
        if not args.follow and study not in journal.names():
            raise IncompleteResults(_unknown(study, journal))
        again = following.AGAIN_S
        yield from following.words(journal, study, follow=args.follow, patience=again)
    return DONE


def _journal_to_come(args: argparse.Namespace) -> SqlJournal:
    """Open the journal, as soon as a driver has begun one."""
    waited = False
    while True:
        try:
            return opening.known_journal(args)
        except IncompleteResults as error:
            if not waited:
                log.warning("%s; waiting for it", error)
        waited = True
        time.sleep(LOOK_S)


def stop(args: argparse.Namespace) -> Talk:
    """Ask the driver to end: its job, or through the journal wherever it runs."""
    study = yaml_file.read(args.spec, args.set).name
    if args.address:
        client = connect(args.address)
        known = [job for job in jobs.of_study(client, study) if not job.over]
        if len(known) > 1:
            raise JobError(
                "what is stopped must be one study, but here play "
                f"{' and '.join(job.id for job in known)}, kept in different places; say which "
                "with --journal or --home, without --address"
            )
        if known:
            return (yield from _stop_job(client, known[0], wait=not args.no_wait))
        log.warning("the cluster plays no job of %r; asking through the journal", study)
    with closing(opening.known_journal(args)) as journal:
        if study not in journal.names():
            raise IncompleteResults(_unknown(study, journal))
        state = journal.state(study)
        if state != "running":
            yield f"{study}: {state or 'not running'}; there is nothing to stop"
            return DONE
        ask_to_stop(journal.database, study, journal.now())
        yield f"{study}: asked to stop at the next checkpoint"
        if args.no_wait:
            return DONE
        return (yield from _until(study, lambda: _over(journal, study)))


def _over(journal: SqlJournal, study: str) -> str:
    state = journal.state(study)
    return "" if state == "running" else state


def _stop_job(client: Client, job: jobs.Job, *, wait: bool) -> Talk:
    jobs.stop(client, job)
    yield f"{job.id}: asked to stop at the next checkpoint"
    return (yield from _until(job.id, partial(_ended, client, job.id))) if wait else DONE


def _ended(client: Client, id_: str) -> str:
    job = jobs.info(client, id_)
    return job.how if job.over else ""


def _until(what: str, over: Callable[[], str]) -> Talk:
    """Wait for an end, but not for ever."""
    start = time.monotonic()
    while not (state := over()):
        if time.monotonic() - start > STOP_S:
            yield f"{what}: still running after {STOP_S:.0f} s; the driver may be dead or stuck"
            return FAILED
        time.sleep(LOOK_S)
    yield f"{what}: {state}; the same command goes on from there"
    return DONE


def status(args: argparse.Namespace) -> Talk:
    """Tell what the cluster knows of the study's jobs, and what the journal does."""
    if args.spec is None:
        raise SpecError("--address asks for the jobs of one study, but no SPEC is given; name it")
    study = yaml_file.read(args.spec, args.set).name
    client = connect(args.address)
    known = jobs.of_study(client, study)
    found, whys = {}, {}
    if args.journal or (args.home / "journal.db").exists():
        with closing(opening.known_journal(args)) as journal:
            if study in journal.names():
                found[study] = telling.status(study, journal)
                whys = {study: telling.whys(args, study, journal)} if args.why else {}
    if args.json:
        told = {name: found[name] | ({"why": whys[name]} if whys else {}) for name in found}
        yield report.as_json({"jobs": [job._asdict() for job in known], "studies": told})
        return DONE
    for job in known:
        when = datetime.fromtimestamp(job.begun, UTC).isoformat(" ", "seconds")
        yield f"{job.id}: {job.how}; sent {when}"
    if not known:
        yield f"{study}: the cluster knows no job of it"
    if found:
        yield accounts.status(found) + (f"\n{accounts.whys(whys)}" if whys else "")
    elif args.why:
        log.warning("why trials wait is in the journal: say where with --journal or --home")
    return DONE


def _unknown(study: str, journal: SqlJournal) -> str:
    known = ", ".join(journal.names()) or "none"
    return f"a study must be one that was run, but {study!r} was not; known here: {known}"


VERBS: dict[str, Callable[[argparse.Namespace], Talk]] = {
    "submit": submit,
    "status": status,
    "logs": logs,
    "stop": stop,
}
