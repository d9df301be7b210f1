"""What fits on a cluster, worked by hand, and what must hold of any cluster."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigorl.fitting import Node, never, placements, short_of, trials_at_once
from rigorl.resources import Needs, Strategy

STRATEGIES: tuple[Strategy, ...] = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


def node(name: str, has: Needs, free: Needs | None = None) -> Node:
    return Node(name, has, has if free is None else free)


def gpus(*numbers: float, cpus: float = 8) -> list[Node]:
    return [node(f"10.0.0.{i}", Needs(cpus, number)) for i, number in enumerate(numbers, 1)]


@pytest.mark.parametrize(
    ("needs", "strategy", "nodes", "expected"),
    [
        ([Needs(1)], "PACK", gpus(0, 0), 16),
        ([Needs(3)], "PACK", gpus(0, 0), 4),
        ([Needs(0.1)], "PACK", gpus(0, cpus=1), 10),
        ([Needs(1, 0.75), Needs(1, 0.75)], "PACK", gpus(1), 0),
        ([Needs(1, 0.75), Needs(1, 0.75)], "PACK", gpus(2), 1),
        ([Needs(1, 0.75), Needs(1, 0.25)], "STRICT_PACK", gpus(2), 2),
        ([Needs(1, 0.75), Needs(1, 1)], "STRICT_PACK", gpus(2), 1),
        ([Needs(1, 2)], "PACK", gpus(1, 1), 0),
        ([Needs(1, 2)], "PACK", gpus(4, 3), 3),
        ([Needs(1, 1.5)], "PACK", gpus(4), 0),
        ([Needs(2), *[Needs(1)] * 4], "PACK", gpus(0, 0), 2),
        ([Needs(3), Needs(3)], "PACK", gpus(0, 0), 2),
        ([Needs(5), Needs(5)], "PACK", gpus(0, 0), 1),
        ([Needs(5), Needs(5)], "STRICT_PACK", gpus(0, 0), 0),
        ([Needs(4), Needs(4)], "STRICT_SPREAD", gpus(0), 0),
        ([Needs(4), Needs(4)], "STRICT_SPREAD", gpus(0, 0), 2),
        ([Needs(4), Needs(4)], "STRICT_SPREAD", gpus(0, 0, 0), 3),
        ([Needs(1, 1), Needs(4)], "STRICT_SPREAD", gpus(4, 0), 2),
        ([Needs(1, 1), Needs(1)], "PACK", gpus(8, 0), 4),
        ([Needs(1, 1), Needs(1)], "SPREAD", gpus(8, 0), 8),
        ([Needs(1, 2), Needs(1, 0.6)], "STRICT_PACK", gpus(15, cpus=16), 5),
        ([Needs(1, 1), Needs(1, 0.3)], "STRICT_PACK", gpus(4), 3),
        ([Needs(4), Needs(1, 1)], "PACK", gpus(1, 0, cpus=4), 1),
        ([Needs(1, memory=3)], "PACK", [node("a", Needs(8, memory=10))], 3),
        ([Needs(1, resources={"arm": 1})], "PACK", [node("a", Needs(8, resources={"arm": 2}))], 2),
        (
            [Needs(1, labels={"zone": "eu"})],
            "PACK",
            [node("a", Needs(8, labels={"zone": "us"}))],
            0,
        ),
        ([Needs(1, labels={"zone": "!eu"})], "PACK", [node("a", Needs(8))], 8),
        ([Needs(1, labels={"z": "in(a, b)"})], "PACK", [node("a", Needs(8, labels={"z": "b"}))], 8),
        ([Needs(1, labels={"z": "!in(a,b)"})], "PACK", [node("a", Needs(8, labels={"z": "b"}))], 0),
        ([Needs(1)], "PACK", [], 0),
    ],
)
def test_worked_by_hand(
    needs: list[Needs], strategy: Strategy, nodes: list[Node], expected: int
) -> None:
    assert trials_at_once(needs, strategy, nodes) == expected


def test_what_is_taken_is_not_free() -> None:
    busy = [node("a", Needs(8, 2), free=Needs(8, 1.5)), node("b", Needs(8, 2), free=Needs(0, 2))]
    assert trials_at_once([Needs(1, 1)], "PACK", busy) == 4
    assert trials_at_once([Needs(1, 1)], "PACK", busy, free=True) == 1
    assert trials_at_once([Needs(1, 0.5)], "PACK", busy, free=True) == 3


def test_what_is_to_be_apart_is_apart_where_it_can_be() -> None:
    big, small = node("big", Needs(8)), node("small", Needs(2))
    pair = [Needs(1), Needs(1)]
    assert placements(pair, "SPREAD", [big, small]) == [("big", "small")] * 2 + [("big",) * 2] * 3
    assert placements(pair, "STRICT_SPREAD", [big, small]) == [("big", "small")] * 2
    assert placements(pair, "PACK", [big, small]) == [("big",) * 2] * 4 + [("small",) * 2]


def test_a_trial_that_needs_nothing_is_not_counted_for_ever() -> None:
    assert trials_at_once([Needs(0)], "PACK", gpus(0)) == 10_000


@pytest.mark.parametrize(
    ("needs", "strategy", "nodes", "said"),
    [
        (
            [Needs(1, 3)],
            "PACK",
            gpus(1, 2),
            "asks for 1 CPU and 3 GPUs on one node; the nearest, 10.0.0.2, has 2 GPUs",
        ),
        (
            [Needs(4, 2)],
            "PACK",
            [node("a", Needs(8)), node("b", Needs(3, 2))],
            "asks for 4 CPUs and 2 GPUs on one node; the nearest, b, has 3 CPUs",
        ),
        (
            [Needs(1, 1), Needs(9)],
            "PACK",
            gpus(1),
            "a member of its crew asks for 9 CPUs on one node; the nearest, 10.0.0.1, has 8 CPUs",
        ),
        (
            [Needs(1, labels={"zone": "eu"}), Needs(1)],
            "PACK",
            [node("a", Needs(8, labels={"zone": "us"}))],
            (
                "the learner asks for 1 CPU and the label zone=eu on one node; "
                "the nearest, a, has the label zone=us"
            ),
        ),
        (
            [Needs(1, memory=2**33, resources={"arm": 1})],
            "PACK",
            [node("a", Needs(8, memory=2**32))],
            (
                "asks for 1 CPU, 8 GiB of memory and 1 of 'arm' on one node; "
                "the nearest, a, has 4 GiB of memory and 0 of 'arm'"
            ),
        ),
        (
            [Needs(5), Needs(5)],
            "STRICT_PACK",
            gpus(0, 0),
            (
                "its 2 processes ask for 10 CPUs on one node (STRICT_PACK); "
                "the nearest, 10.0.0.1, has 8 CPUs"
            ),
        ),
        (
            [Needs(1), Needs(1), Needs(1)],
            "STRICT_SPREAD",
            gpus(0, 0),
            (
                "its 3 processes ask for a node each (STRICT_SPREAD), "
                "and of all only 10.0.0.1 and 10.0.0.2 can hold one"
            ),
        ),
        (
            [Needs(5), Needs(5), Needs(5)],
            "PACK",
            gpus(0, 0),
            "its 3 processes ask for 15 CPUs, and all nodes together have 16 CPUs",
        ),
        ([Needs(1)], "PACK", [], "there is no node"),
        ([Needs(1)], "PACK", gpus(0), ""),
    ],
)
def test_what_never_fits_is_said(
    needs: list[Needs], strategy: Strategy, nodes: list[Node], said: str
) -> None:
    assert never(needs, strategy, nodes) == said
    assert short_of(needs, strategy, nodes) == (
        f"waits for nodes that are not there: {said}" if said else ""
    )


def busy(total: Needs, *free: Needs) -> list[Node]:
    return [node(f"10.0.0.{i}", total, left) for i, left in enumerate(free, 1)]


@pytest.mark.parametrize(
    ("needs", "strategy", "nodes", "said"),
    [
        (
            [Needs(1, 1)],
            "PACK",
            busy(Needs(8, 2), Needs(7), Needs(7), Needs(7), Needs(7)),
            (
                "waits for 1 GPU: all 8 are taken, "
                "2 on each of 10.0.0.1, 10.0.0.2, 10.0.0.3 and 10.0.0.4"
            ),
        ),
        (
            [Needs(1, 2)],
            "PACK",
            busy(Needs(8, 2), Needs(7), Needs(7, 1)),
            "waits for 2 GPUs: of 4, 1 free, 1 on 10.0.0.2",
        ),
        (
            [Needs(4, 1), Needs(1)],
            "PACK",
            busy(Needs(8, 2), Needs(3, 1), Needs(8, 0)),
            "the learner waits for 4 CPUs and 1 GPU: too little CPU on 10.0.0.1; too little GPU on 10.0.0.2",
        ),
        (
            [Needs(1, memory=2**31)],
            "PACK",
            busy(Needs(8, memory=2**32), Needs(8, memory=2**30)),
            "waits for 2 GiB of memory: of 4 GiB, 1 GiB free, 1 GiB on 10.0.0.1",
        ),
        (
            [Needs(5), Needs(5)],
            "PACK",
            busy(Needs(8), Needs(8), Needs(4)),
            "waits for 10 CPUs; free, here and there: 12 CPUs",
        ),
        (
            [Needs(3), Needs(3)],
            "STRICT_PACK",
            busy(Needs(8), Needs(5), Needs(4)),
            (
                "waits for 6 CPUs: of 16, 9 free, 5 on 10.0.0.1; 4 on 10.0.0.2 "
                "(STRICT_PACK: all on one node)"
            ),
        ),
        (
            [Needs(1, 0.75), Needs(1, 0.75)],
            "STRICT_PACK",
            busy(Needs(8, 2), Needs(8, 1)),
            "waits for 2 GPUs: of 2, 1 free, 1 on 10.0.0.1 (STRICT_PACK: all on one node)",
        ),
        (
            [Needs(3), Needs(3)],
            "STRICT_SPREAD",
            busy(Needs(8), Needs(8), Needs(2)),
            "waits for 2 nodes (STRICT_SPREAD); room now: 10.0.0.1",
        ),
    ],
)
def test_what_is_short_now_is_said(
    needs: list[Needs], strategy: Strategy, nodes: list[Node], said: str
) -> None:
    assert never(needs, strategy, nodes) == ""
    assert short_of(needs, strategy, nodes) == said


def test_many_nodes_are_counted_and_not_all_named() -> None:
    many = busy(Needs(8, 1), *[Needs(8)] * 30)
    said = short_of([Needs(1, 1)], "PACK", many)
    assert said.endswith("1 on each of 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 and 26 more")


parts = st.sampled_from([0, 0.25, 0.3, 0.5, 0.75, 1, 2])
one = st.builds(
    Needs,
    cpus=st.sampled_from([0.5, 1, 2, 3]),
    gpus=parts,
    memory=st.sampled_from([0, 1, 3]),
    resources=st.sampled_from([{}, {"arm": 1}]),
    labels=st.sampled_from([{}, {}, {"zone": "eu"}]),
)
trial = st.builds(
    lambda first, member, size: [first, *[member] * size], one, one, st.integers(0, 3)
)
machine = st.builds(
    lambda cpus, gpus, free, arms, zone: (
        Needs(cpus, gpus, 6, {"arm": arms}, {"zone": zone}),
        Needs(min(cpus, free), gpus * free / 4, 6, {"arm": arms}),
    ),
    st.sampled_from([0, 2, 4, 8]),
    st.sampled_from([0, 1, 2, 4]),
    st.integers(0, 4),
    st.integers(0, 2),
    st.sampled_from(["eu", "us"]),
)
cluster = st.lists(machine, max_size=4).map(
    lambda found: [node(f"n{i}", total, free) for i, (total, free) in enumerate(found)]
)
strategies = st.sampled_from(STRATEGIES)


def fits_on_devices(asked: list[float], devices: int) -> bool:
    """Try everything: each part on one device, each whole on devices of its own."""
    wholes = sum(int(gpu) for gpu in asked if gpu >= 1)
    fractions = [gpu for gpu in asked if 0 < gpu < 1]
    if wholes + (sum(fractions) > 0) > devices:
        return False
    for places in product(range(max(devices - wholes, 0)), repeat=len(fractions)):
        loads = [0.0] * max(devices - wholes, 0)
        for place, fraction in zip(places, fractions, strict=True):
            loads[place] += fraction
        if all(load < 1 + 1e-9 for load in loads):
            return True
    return False


@settings(deadline=None)
@given(trial, strategies, cluster)
def test_what_is_placed_is_there(needs: list[Needs], strategy: Strategy, nodes: list[Node]) -> None:
    placed = placements(needs, strategy, nodes)
    assert len(placed) == trials_at_once(needs, strategy, nodes)
    for there in nodes:
        here = [
            n
            for trial in placed
            for n, name in zip(needs, trial, strict=True)
            if name == there.name
        ]
        assert sum(n.cpus for n in here) <= there.total.cpus
        assert sum(n.memory for n in here) <= there.total.memory
        assert sum(n.resources.get("arm", 0) for n in here) <= there.total.resources["arm"]
        assert all(n.labels.items() <= there.total.labels.items() for n in here)
        if len(here) <= 6:
            assert fits_on_devices([n.gpus for n in here], int(there.total.gpus))
    for trial in placed:
        if strategy == "STRICT_PACK":
            assert len(set(trial)) == 1
        if strategy == "STRICT_SPREAD":
            assert len(set(trial)) == len(needs)


@settings(deadline=None)
@given(trial, strategies, cluster, machine)
def test_another_node_makes_it_no_fewer(
    needs: list[Needs], strategy: Strategy, nodes: list[Node], more: tuple[Needs, Needs]
) -> None:
    before = trials_at_once(needs, strategy, nodes)
    assert trials_at_once(needs, strategy, [*nodes, Node("more", *more)]) >= before


@settings(deadline=None)
@given(trial, strategies, cluster)
def test_words_and_numbers_agree(needs: list[Needs], strategy: Strategy, nodes: list[Node]) -> None:
    assert bool(never(needs, strategy, nodes)) == (trials_at_once(needs, strategy, nodes) == 0)
    now = trials_at_once(needs, strategy, nodes, free=True)
    assert bool(short_of(needs, strategy, nodes)) == (now == 0)
    assert short_of(needs, strategy, nodes).startswith("waits for nodes that") == bool(
        never(needs, strategy, nodes)
    )


@settings(deadline=None)
@given(trial, cluster)
def test_a_strict_wish_holds_no_more(needs: list[Needs], nodes: list[Node]) -> None:
    assert trials_at_once(needs, "STRICT_PACK", nodes) <= trials_at_once(needs, "PACK", nodes)
    apart = trials_at_once(needs, "STRICT_SPREAD", nodes)
    assert bool(apart) <= bool(trials_at_once(needs, "SPREAD", nodes))
