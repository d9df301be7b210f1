"""Which bound on its gain an arm was asked to keep, and whether it did."""

from collections.abc import Iterator

from rigorl.analysis.curves import last
from rigorl.analysis.evidence import Evidence


def infeasible(evidence: Evidence) -> Iterator[str]:
    """Say of which arms no policy was found that keeps the bound which was asked for."""
    for arm in evidence.spec.arms:
        ends = [(t.seed, told) for t in evidence.tests(arm) if (told := last(t, evidence.reports))]
        broken = [(seed, told.metrics) for seed, told in ends if told.metrics.get("infeasible")]
        if broken:
            asked = bound(evidence, arm)
            eta = f"{asked[0]:.3g}" if asked else "?"
            ratios = ", ".join(f"{told['ratio']:.3g}" for _, told in broken)
            caps = ", ".join(f"{cap:.3g}" for cap in sorted({told["lambda"] for _, told in broken}))
            yield (
                f"arm {arm!r}: no policy within eta = {eta} was "
                f"found on seeds {[seed for seed, _ in broken]}: measured ratio {ratios}, lambda "
                f"at its cap {caps}; raise eta, or the budget"
            )


def bound(evidence: Evidence, arm: str) -> tuple[float, str] | None:
    """Return the eta that *arm* was asked to keep, and of which norm; None if it was not.

    It was not where there is no disturber, or where a broken bound costs nothing.

    An eta that is not written down is read off what was measured: slack = 1 - ratio / eta.
    """
    if evidence.spec.arms[arm].agent.name != "hinf" or arm not in evidence.chosen:
        return None
    config = evidence.spec.arms[arm].chosen(evidence.chosen[arm]).config
    free = config.get("lambda_lr") == 0 and not config.get("lambda_init")
    if free or config.get("nominal") == 1:
        return None
    norm, eta = str(config.get("norm", "plain")), config.get("eta")
    if eta is not None:
        return float(eta), norm
    for trial in evidence.tests(arm):
        told = evidence.reports[trial.id][-1].metrics
        if "slack" in told and told["slack"] < 1:
            return float(f"{told['ratio'] / (1 - told['slack']):.9g}"), norm
    return None
