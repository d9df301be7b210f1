"""The alarms of a study, worked out anew for trials of which there is news."""

from collections.abc import Iterable

from rigorl.analysis.alarm import Raised, alarms
from rigorl.outside.journal import SqlJournal
from rigorl.spec import Experiment
from rigorl.trial import Trial


class Alarms:
    """Looks again and again, and opens the reports of those alone that have more than before."""

    def __init__(self, spec: Experiment, journal: SqlJournal) -> None:
        self.spec, self.journal = spec, journal
        self._seen = 0
        self._found: dict[str, list[Raised]] = {}

    def look(self, trials: Iterable[Trial]) -> list[Raised]:
        """Return the alarms of *trials* so far, those of a trial together."""
        alarm, ours = self.spec.alarm, {trial.id: trial for trial in trials}
        if alarm is None:
            return []
        news = self.journal.newest(self.spec.name, self._seen)
        told = self.journal.reports(ours.keys() & news.keys())
        self._found |= {id_: alarms(ours[id_], told[id_], alarm) for id_ in told}
        self._seen = max([self._seen, *(seq for seq, _, _ in news.values())])
        return [one for id_ in ours for one in self._found.get(id_, [])]
