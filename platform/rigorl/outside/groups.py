"""Which trials of a study belong together, and what came of them as far as that is worked out.

A *group* is the trials that differ in nothing but the seed: a candidate of a search on its
tuning seeds, or an arm under test. The journal knows trials only; this is read from it.
"""

from collections.abc import Collection, Iterator, Mapping

from rigorl import plan, search
from rigorl.hunting import Try, follow, hunt
from rigorl.outside.journal import SqlJournal
from rigorl.spec import Experiment
from rigorl.stories import bundle_of, measured, outcome, size
from rigorl.trial import Trial, fingerprint


class Groups:
    """The groups of the study *spec*, as far as one has met their trials."""

    def __init__(self, journal: SqlJournal, spec: Experiment) -> None:
        self.journal, self.spec = journal, spec
        self.trials: dict[str, Trial] = {}
        self.of: dict[str, str] = {}
        self.members: dict[str, list[str]] = {}
        self._numbers: dict[str, tuple[int, int] | None] = {}

    def meet(self, ids: Collection[str]) -> None:
        """Get to know the trials *ids*, if they are new, and all others with them."""
        if self.trials.keys() >= set(ids):
            return
        self.trials = {trial.id: trial for trial in self.journal.trials(self.spec.name)}
        for id_, trial in self.trials.items():
            if id_ not in self.of:
                self.of[id_] = plan.group(trial, self.trials)
                self.members.setdefault(self.of[id_], []).append(id_)

    def one(self, group: str) -> Trial:
        return self.trials[self.members[group][0]]

    def number(self, group: str) -> int | None:
        """Return which candidate of its arm's search *group* is; None if it is none."""
        found = self._place(group)
        return found[1] if found else None

    def name(self, group: str) -> str:
        one, place = self.one(group), self._place(group)
        if place is not None:
            repeat, number = place
            return f"{one.arm}{f' search {repeat}' if repeat else ''} candidate {number}"
        arm = self.spec.arms.get(one.arm)
        if one.phase == "tune" and (arm is None or arm.search):  # of another version of the spec
            return f"{one.arm} candidate {fingerprint(one.agent)[:8]}"
        return f"{one.arm} {one.phase}"

    def planned(self, group: str) -> int:
        """Return how many trials of *group* there will be."""
        one = self.one(group)
        if one.phase == "tune":
            return len(self.spec.seeds.tune)
        return plan.counts(self.spec).get((one.arm, one.phase), 0)

    def pruned(self, ids: Collection[str]) -> set[str]:
        """Return those of the unfinished trials *ids* that their search gave up.

        To be asked once nobody plays: standings are the driver's while it drives.
        """
        searches = {}
        for group in {self.of[id_] for id_ in ids}:
            if place := self._place(group):
                arm, chosen = self.one(group).arm, self._chosen(self.one(group))
                searches[plan.search_id(self.spec, arm, chosen, place[0])] = arm, chosen
        found = (self._given_up(key, arm, chosen) for key, (arm, chosen) in searches.items())
        return {id_ for ones in found for id_ in ones} & set(ids)

    def _place(self, group: str) -> tuple[int, int] | None:
        """Return which of its arm's searches proposed *group*, and as which candidate."""
        if group not in self._numbers:
            self._numbers[group] = self._placed(self.one(group))
        return self._numbers[group]

    def _placed(self, one: Trial) -> tuple[int, int] | None:
        arm = self.spec.arms.get(one.arm)
        if one.phase != "tune" or arm is None or arm.search is None:
            return None
        chosen = self._chosen(one)
        for repeat in range(arm.search.repeats):
            key = plan.search_id(self.spec, one.arm, chosen, repeat)
            number = plan.number(self.spec, one, chosen, self.journal.proposed(key))
            if number is not None:
                return repeat, number
        return None

    def _chosen(self, one: Trial) -> dict[str, plan.Config]:
        return plan.built_on(self.spec, one, self.trials)

    def _given_up(self, key: str, arm: str, chosen: Mapping[str, plan.Config]) -> Iterator[str]:
        """Yield the trials of candidates that were pruned, by what is known of them all."""
        how, proposed = self.spec.arms[arm].search, self.journal.proposed(key)
        if how is None or not (how.prune or how.is_population):
            return
        told: list[search.Outcome] = []
        hunting = hunt(how, size(self.spec), lambda number, _: proposed.get(number), told)

        def answer(one: Try) -> search.Outcome:
            bundle = bundle_of(self.spec, arm, chosen, one)
            return outcome(one, bundle, measured(self.spec, arm, [bundle], self.journal))

        follow(hunting, answer)
        given_up = [told_.config for told_ in told if told_.state == "pruned"]
        if how.is_population and told:  # who goes on as another is given up as what it was
            last = [told_.config for told_ in told]
            given_up = [config for config in proposed.values() if config not in last]
        for pruned in given_up:
            configs = {**chosen, arm: pruned}
            for trial in plan.trials(self.spec, arm, "tune", configs, self.spec.seeds.tune):
                yield trial.id
