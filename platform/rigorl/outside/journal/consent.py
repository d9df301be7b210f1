"""What of a study counts as its own: a spec that only grew, and trials of the code that is here."""

from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec
import sqlalchemy as sa

from rigorl import growth
from rigorl.outside.journal.tables import candidates, studies, trials
from rigorl.spec import Experiment
from rigorl.trial import Trial


def objection(db: sa.Connection, spec: Experiment, codes: Mapping[str, str]) -> str | None:
    """Say why *spec*, played by *codes* (agent -> code), does not continue the study, if so."""
    text = db.scalar(sa.select(studies.c.spec).where(studies.c.name == spec.name))
    if text is None or not _is_begun(db, spec.name):
        return None
    differences = growth.differences(msgspec.json.decode(text, type=Experiment), spec)
    if differences:
        return (
            "a study may grow by arms, seeds and candidates, and by nothing else, but in "
            f"{spec.name!r} {'; '.join(differences)}; undo that, give the experiment another "
            "name, or let --fork find one"
        )
    others = Counter(agent for _, agent in _of_other_code(db, spec.name, codes))
    if not others:
        return None
    counted = ", ".join(f"{n} of {agent}" for agent, n in sorted(others.items()))
    return (
        f"trials must be of the code that is here now, but in {spec.name!r} {counted} were made "
        "by other code; --accept-code keeps them, --fork plays all anew under another name"
    )


def _is_begun(db: sa.Connection, study: str) -> bool:
    """Say whether anything is known of *study* but its name: it may have been refused at once."""
    tables = (trials, candidates)
    first = (sa.select(sa.literal(1)).where(table.c.study == study).limit(1) for table in tables)
    return any(db.scalar(query) is not None for query in first)


def accept_code(db: sa.Connection, study: str, codes: Mapping[str, str]) -> None:
    """Let the trials of *study* that other code made count as if made by *codes*."""
    for trial, agent in list(_of_other_code(db, study, codes)):
        db.execute(trials.update().where(trials.c.id == trial).values(accepted=codes[agent]))


def _of_other_code(
    db: sa.Connection, study: str, codes: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield the trials, and their agents, that *codes* has other code for."""
    query = sa.select(trials.c.id, trials.c.body, trials.c.code, trials.c.accepted)
    for id_, body, *made_by in db.execute(query.where(trials.c.study == study)):
        agent = msgspec.json.decode(body, type=Trial).agent.name
        if agent in codes and codes[agent] not in made_by:
            yield id_, agent
