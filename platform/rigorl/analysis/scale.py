"""What counts as 0 and 1 on each task: given in numbers, measured by trials, or raw."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from rigorl.analysis.curves import final_ST, last
from rigorl.spec import AgentSpec, Experiment, TaskSpec
from rigorl.trial import Report, Trial

UNIFORM = "uniform"


class Scale(Struct, frozen=True, kw_only=True):
    """Scores are (return - random) / (reference - random); *raw* ones are the returns.

    A *missing* scale was to be measured and could not be (yet): `why` says what lacks.
    """

    kind: Literal["raw", "given", "measured", "missing"]
    random: float | None = None
    reference: float | None = None
    why: str = ""

    @property
    def ends(self) -> tuple[float, float] | None:
        """What counts as 0 and 1, for raw returns these numbers themselves; None if missing."""
        if self.kind == "raw":
            return 0.0, 1.0
        if self.random is None or self.reference is None or self.kind == "missing":
            return None
        return self.random, self.reference


def measure(
    spec: Experiment,
    chosen: Mapping[str, Mapping[str, Any]],
    trials: Sequence[Trial],
    reports: Mapping[str, Sequence[Report]],
) -> dict[str, Scale]:
    """Return the scale of each task. What is measured is the mean final return over test seeds.

    `random: measured` is measured by the trials of the agent `uniform`, `reference: arm` by
    those of the arm in its chosen configuration; each in phase `scale`, on the task alone.
    """
    return {task.name: _measure(spec, chosen, task, trials, reports) for task in spec.tasks}


def ends(scales: Mapping[str, Scale]) -> dict[str, tuple[float, float]] | None:
    """Return what counts as 0 and 1 on each task; None if a scale is missing."""
    known = {name: scale.ends for name, scale in scales.items() if scale.ends is not None}
    return known if len(known) == len(scales) else None


def _measure(
    spec: Experiment,
    chosen: Mapping[str, Mapping[str, Any]],
    task: TaskSpec,
    trials: Sequence[Trial],
    reports: Mapping[str, Sequence[Report]],
) -> Scale:
    if task.random is None or task.reference is None:
        return Scale(kind="raw")
    at: dict[str, float | None] = {}
    why: list[str] = []
    for end, value in (("random", task.random), ("reference", task.reference)):
        if not isinstance(value, str):
            at[end] = float(value)
            continue
        arm = UNIFORM if end == "random" else value
        agent = AgentSpec(name=UNIFORM) if end == "random" else _agent(spec, chosen, arm)
        by_seed = {t.seed: t for t in trials if _measures(t, arm, agent, task)}
        lacking = [
            seed
            for seed in spec.seeds.test
            if seed not in by_seed or last(by_seed[seed], reports) is None
        ]
        if lacking:
            at[end] = None
            why.append(f"{end} is measured by {arm!r}, which lacks seeds {lacking}")
        else:
            ordered = [by_seed[seed] for seed in spec.seeds.test]
            at[end] = float(final_ST(ordered, reports).mean())
    if not why and at["random"] == at["reference"]:
        why.append(f"random and reference were both measured as {at['random']}")
    measured = isinstance(task.random, str) or isinstance(task.reference, str)
    kind: Literal["given", "measured", "missing"] = "measured" if measured else "given"
    return Scale(kind="missing" if why else kind, why="; ".join(why), **at)


def _agent(spec: Experiment, chosen: Mapping[str, Mapping[str, Any]], arm: str) -> AgentSpec | None:
    if arm not in chosen:
        return None
    return spec.arms[arm].chosen(chosen[arm])


def _measures(trial: Trial, arm: str, agent: AgentSpec | None, task: TaskSpec) -> bool:
    """Say whether *trial* measures *agent* on *task*. An arm may be called uniform, too."""
    alone = trial.phase == "scale" and trial.tasks == (task,)
    return alone and trial.arm == arm and trial.agent == agent
