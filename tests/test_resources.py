"""What the processes of a trial need, in the words of a spec."""

import msgspec
import pytest
from msgspec import ValidationError
from msgspec.structs import replace

from conftest import tiny
from rigorl.plan import trials
from rigorl.resources import ExamSpec, Needs, PlacementSpec, in_bytes
from rigorl.spec import Experiment


def test_the_learner_comes_first_and_then_its_crew_and_those_who_examine() -> None:
    spec = tiny(
        budget={"steps": 20, "exam_every": 10, "cpus": 2, "gpus": 0.5},
        exam={"crew": 1},
        placement={
            "learner": {"memory": "1GiB", "labels": {"zone": "north"}},
            "crew": {"size": 2, "gpus": 0.25, "resources": {"licence": 1}},
        },
    )
    member = Needs(1.0, 0.25, 0, {"licence": 1.0}, {})
    assert spec.needs == (Needs(2.0, 0.5, 2**30, {}, {"zone": "north"}), member, member, member)
    assert tiny().needs == (Needs(),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("512MiB", 2**29), ("4GB", 4_000_000_000), ("1.5 KiB", 1536), ("2TB", 2 * 10**12)],
)
def test_memory_is_read_in_both_kinds_of_units(text: str, expected: int) -> None:
    assert in_bytes(text) == expected
    assert in_bytes(None) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"exam": {"backlog": 0}},
        {"exam": {"crew": -1}},
        {"placement": {"strategy": "pack"}},
        {"placement": {"learner": {"memory": "4 gigs"}}},
        {"placement": {"learner": {"resources": {"GPU": 1}}}},
        {"placement": {"learner": {"cpus": 2}}},
        {"placement": {"crew": {"gpus": float("inf")}}},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        tiny(**wrong)


def test_a_trial_is_the_same_wherever_it_is_played(spec: Experiment) -> None:
    elsewhere = replace(spec, exam=ExamSpec(crew=3), placement=PlacementSpec(strategy="SPREAD"))
    ids = [[t.id for t in trials(s, "seeker", "test", {}, [0, 1])] for s in (spec, elsewhere)]
    assert ids[0] == ids[1]
    assert msgspec.json.decode(msgspec.json.encode(elsewhere), type=Experiment) == elsewhere
