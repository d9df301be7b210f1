"""What a careful reader should know before believing the numbers."""

from collections.abc import Iterator, Mapping, Sequence

from rigorl.analysis.lessons import Lessons
from rigorl.analysis.scale import Scale
from rigorl.analysis.tuning import Repeats, Tuning
from rigorl.spec import Experiment

FEW = 5
"""With fewer seeds an interval is little more than the range that was seen."""
ALIKE = 1.1
"""Searches of which one may spend so many times what the other may are given the same."""


def on_scales(spec: Experiment, scales: Mapping[str, Scale]) -> Iterator[str]:
    """Say what makes scores worth less, or nothing."""
    for name, scale in scales.items():
        if scale.kind == "missing":
            yield f"no score without the scale of task {name!r}: {scale.why}"
    for name, scale in scales.items():
        if scale.ends and scale.ends[0] > scale.ends[1]:
            yield (
                f"the scale of task {name!r} is upside down: random {scale.ends[0]:.6g} is above "
                f"reference {scale.ends[1]:.6g}, so a higher return is a lower score"
            )
    raw = [name for name, scale in scales.items() if scale.kind == "raw"]
    if raw and len(spec.tasks) > 1:
        yield (
            f"raw returns of {', '.join(raw)} are averaged with those of other tasks: the task "
            "with the largest returns rules; give `random` and `reference` to compare tasks"
        )


def on_exams(spec: Experiment) -> Iterator[str]:
    """Say what few seeds and many exams do to numbers."""
    if len(spec.seeds.test) < FEW:
        yield (
            f"only {len(spec.seeds.test)} test seeds: the intervals are rough, and too narrow "
            "on average; add seeds before trusting a difference"
        )
    if len(spec.tasks) > 1:
        yield (
            "min_acc, wc_acc, wf, wp and gap_depth are extremes of exams of "
            f"{spec.budget.exam_episodes} episodes, and grow with noise and with the number of "
            "exams: compare them only with arms examined as often"
        )


def on_placebos(arms: Mapping[str, Lessons]) -> Iterator[str]:
    """Say which placebo is no measure of noise, for it was not examined as its arm was."""
    for arm, one in arms.items():
        for name, floor in one.placebo.items():
            if not floor.aligned:
                yield (
                    f"placebo {name!r} was examined at other moments than {arm!r}: extremes and "
                    "times of the two do not quite compare; let its `pause` be the steps between "
                    f"two updates of {arm!r}, and its `updates` how many are made then"
                )


def on_searches(
    tunings: Mapping[str, Tuning],
    repeats: Mapping[str, Repeats],
    planned: Mapping[str, int],
    seeds: int,
) -> Iterator[str]:
    """Say what searches had to spend, *planned* in steps, and what several of them mean.

    They chose by so many *seeds*.
    """
    most, least = (pick(planned, key=lambda arm: planned[arm], default="") for pick in (max, min))
    if planned and planned[most] > ALIKE * planned[least]:
        yield (
            f"budgets differ: the search of arm {most!r} was given {planned[most]:,} steps, that "
            f"of arm {least!r} {planned[least]:,}; some of a difference may be that"
        )
    for name, one in tunings.items():
        if one.luck is None and min(seeds, one.finished) < 2:  # noqa: PLR2004
            yield (
                f"the search of arm {name!r} cannot tell luck from worth: it takes two tuning "
                "seeds, and two candidates that finished; its best score on its own seed is the "
                "luckiest of many"
            )
    for name, many in repeats.items():
        yield (
            f"arm {name!r} searched {many.searches} times: its scores are those of the first "
            "winner, and how far another search would have come is told beside them"
        )


def on_stops(stopped: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Say which seeds of which arms were *stopped* by their alarm, and what that leaves open."""
    for name, seeds in stopped.items():
        if seeds:
            yield (
                f"the alarm stopped seeds {list(seeds)} of arm {name!r}: what they would have come "
                "to is not known, and the others alone would flatter it"
            )
