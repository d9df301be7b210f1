"""Which bound on its gain an arm was asked to keep, and whether it did."""

from collections.abc import Iterator, Mapping
from typing import Any

from rigorl.analysis.curves import last
from rigorl.analysis.evidence import Evidence

MARGIN = 1.1
"""A ratio up to so many times eta passes, for it wavers from rollout to rollout."""

Ends = list[tuple[int, Mapping[str, float]]]


def unkept(evidence: Evidence) -> Iterator[str]:
    """Say of which arms policies ended outside the bound which they were asked to keep.

    Either lambda is at its cap and more of it was not to be had, or it is still on its way.
    """
    for arm in evidence.spec.arms:
        asked = bound(evidence, arm)
        if asked is None:
            continue
        eta, ends = asked[0], _ends(evidence, arm)
        if capped := [end for end in ends if end[1].get("infeasible")]:
            yield (
                f"arm {arm!r}: no policy within eta = {eta:.3g} was found on {_seeds(capped)}: "
                f"measured ratio {_all(capped, 'ratio')}, lambda at its cap "
                f"{max(told['lambda'] for _, told in capped):.3g}; raise eta, or the budget"
            )
        moves = _config(evidence, arm).get("lambda_lr") != 0  # or its price was given, and no bound
        if late := [end for end in ends if moves and _late(end[1], eta)]:
            yield (
                f"arm {arm!r}: eta = {eta:.3g} was not kept yet on {_seeds(late)}: measured ratio "
                f"lately {_all(late, 'kappa')}, with lambda on its way at {_all(late, 'lambda')}; "
                "raise lambda_lr, the budget, or eta"
            )


def _late(told: Mapping[str, float], eta: float) -> bool:
    return not told.get("infeasible") and told.get("kappa", 0) > MARGIN * eta


def _config(evidence: Evidence, arm: str) -> Mapping[str, Any]:
    return evidence.spec.arms[arm].chosen(evidence.chosen[arm]).config


def _ends(evidence: Evidence, arm: str) -> Ends:
    ends = [(t.seed, last(t, evidence.reports)) for t in evidence.tests(arm)]
    return [(seed, told.metrics) for seed, told in ends if told]


def _seeds(ends: Ends) -> str:
    return f"seeds {[seed for seed, _ in ends]}"


def _all(ends: Ends, name: str) -> str:
    return ", ".join(f"{told[name]:.3g}" for _, told in ends)


def bound(evidence: Evidence, arm: str) -> tuple[float, str] | None:
    """Return the eta that *arm* was asked to keep, and of which norm; None if it was not.

    It was not where there is no disturber, or where a broken bound costs nothing.

    An eta that is not written down is read off: slack = 1 - (1 + margin) ratio / eta.
    """
    if evidence.spec.arms[arm].agent.name != "hinf" or arm not in evidence.chosen:
        return None
    config = _config(evidence, arm)
    free = config.get("lambda_lr") == 0 and not config.get("lambda_init")
    if free or config.get("nominal") == 1:
        return None
    norm, eta = str(config.get("norm", "plain")), config.get("eta")
    if eta is not None:
        return float(eta), norm
    for trial in evidence.tests(arm):
        told = evidence.reports[trial.id][-1].metrics
        if "slack" in told and told["slack"] < 1:
            counts = 1 + float(config.get("margin", 0.0))
            return float(f"{counts * told['ratio'] / (1 - told['slack']):.9g}"), norm
    return None
