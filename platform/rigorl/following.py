"""What drivers of a study say, read from its journal as it comes."""

import logging
import time
from collections.abc import Iterator, Sequence

from rigorl.errors import JournalError
from rigorl.outside.journal import SqlJournal
from rigorl.outside.journal.lines import said

LOOK_S, LINGER_S, AGAIN_S = 1.0, 3.0, 20.0
"""Seconds between two looks into a journal; after the end, for last words; for a next driver."""
log = logging.getLogger("rigorl")


def words(
    journal: SqlJournal,
    study: str,
    *,
    follow: bool,
    seen: Sequence[str] = (),
    patience: float = 0.0,
) -> Iterator[str]:
    """Yield what drivers of *study* said; of it, what comes after the lines that were *seen*.

    A study that is over when one begins to `follow` it may have been sent again just now: the
    next driver is waited for with *patience*.
    """
    since, over_at, patience, missed = 0, 0.0, max(patience, LINGER_S), False
    while True:
        try:
            new = said(journal.database, study, since)
            state = journal.state(study)
        except JournalError as error:
            if not follow or journal.database.is_file:
                raise
            log.warning("%s; asking again", error)
            time.sleep(LOOK_S)
            continue
        for _, text in new[_known(new, seen) :]:
            yield text
        since, seen = new[-1][0] if new else since, ()
        now = time.monotonic()
        if state in ("", "running"):
            if follow and not state and not missed:
                log.warning("%r is not known here; waiting for it", study)
            over_at, patience, missed = 0.0, LINGER_S, not state
        elif not over_at:
            over_at = now
            if follow and patience > LINGER_S:
                log.warning("%r: %s; waiting %.0f s for a next driver", study, state, patience)
        if not follow or (over_at and not new and now - over_at > patience):
            return
        time.sleep(LOOK_S)


def _known(new: Sequence[tuple[int, str]], seen: Sequence[str]) -> int:
    """Return how many of *new* come up to the latest of the lines *seen* that is among them."""
    told = [text.splitlines() for _, text in new]
    for line in reversed(seen):
        if line.strip():  # a page has empty lines, and so has every other page
            found = [place for place, lines in enumerate(told, 1) if line in lines]
            if found:
                return found[-1]
    return 0
