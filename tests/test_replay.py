"""The replay: a ring, and what a checkpoint keeps of it."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigorl.blocks import replay
from rigorl.blocks.replay import Replay


def ring(capacity: int, seed: int = 0, segment: int = 4) -> Replay:
    one = Replay(capacity, 2, 1, np.random.default_rng(seed))
    one.segment = segment
    return one


def add(one: Replay, count: int) -> None:
    """Add a step of *count* environments; transition i is made of i."""
    i_E = np.arange(one.added, one.added + count)
    obs_ED = np.stack([i_E, -i_E], 1)
    one.add(obs_ED, i_E[:, None] / 2, obs_ED + 1, i_E * 10.0, i_E % 2 == 0)


def numbers(one: Replay) -> list[int]:
    """Return which transitions are there, oldest first."""
    rows = one._rows(one.first, one.added)
    assert (rows[:, 1] == -rows[:, 0]).all()
    return [int(i) for i in rows[:, 0]]


def test_the_oldest_go_first_also_when_a_step_wraps_around() -> None:
    one = ring(5)
    add(one, 3)
    assert (len(one), numbers(one)) == (3, [0, 1, 2])
    add(one, 3)  # the last of them is at the beginning of the ring
    assert (len(one), numbers(one)) == (5, [1, 2, 3, 4, 5])
    assert one.ring_CR[:, 0].tolist() == [5, 1, 2, 3, 4]
    add(one, 5)
    assert numbers(one) == [6, 7, 8, 9, 10]


def test_a_sample_is_of_whole_transitions_each_as_likely() -> None:
    one = ring(8)
    add(one, 5)
    add(one, 5)
    batch = one.sample(40_000)
    i_B = batch.obs_BD[:, 0]
    assert batch.obs_BD.dtype == np.float32
    np.testing.assert_array_equal(batch.obs_BD[:, 1], -i_B)
    np.testing.assert_array_equal(batch.action_BA[:, 0], i_B / 2)
    np.testing.assert_array_equal(batch.next_obs_BD, batch.obs_BD + 1)
    np.testing.assert_array_equal(batch.reward_B, i_B * 10)
    np.testing.assert_array_equal(batch.terminal_B, i_B % 2 == 0)
    found, counts = np.unique(i_B, return_counts=True)
    assert found.tolist() == list(range(2, 10))
    np.testing.assert_allclose(counts / 40_000, 1 / 8, atol=0.01)


def test_the_room_of_a_batch_is_used_again() -> None:
    one = ring(8)
    add(one, 8)
    assert one.sample(4).obs_BD.base is one.sample(4).obs_BD.base


def test_memory_is_taken_as_it_is_filled() -> None:
    one = Replay(1_000_000, 100, 1, np.random.default_rng(0))  # 0.8 GB, were it filled
    before = resident()
    one.add(np.ones((1, 100)), np.ones((1, 1)), np.ones((1, 100)), np.ones(1), np.zeros(1, bool))
    assert resident() - before < 16e6


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size // 28 for path in folder.glob("replay-*")}


def test_full_segments_are_files_and_the_rest_is_another(tmp_path: Path) -> None:
    one = ring(10)
    add(one, 7)
    add(one, 6)  # 3 to 12 are there: 3 | 4 to 7, 8 to 11 | 12
    one.save(tmp_path)
    names = [replay.segment_name(first) for first in (4, 8)]
    assert files(tmp_path) == dict.fromkeys(names, 4)
    assert (tmp_path / "replay.rest").stat().st_size == 2 * 28
    heir = ring(10, seed=9)
    heir.load(tmp_path)
    assert numbers(heir) == list(range(3, 13))
    np.testing.assert_array_equal(heir.sample(32).obs_BD, one.sample(32).obs_BD)


def test_what_is_there_is_not_written_again_and_what_is_gone_is_removed(tmp_path: Path) -> None:
    one = ring(10)
    add(one, 9)
    one.save(tmp_path)
    kept = tmp_path / replay.segment_name(4)
    before = kept.stat().st_mtime_ns, kept.stat().st_ino
    add(one, 4)
    one.save(tmp_path)
    assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == before
    assert sorted(files(tmp_path)) == [replay.segment_name(first) for first in (4, 8)]


def test_cleared_it_begins_anew_under_new_numbers(tmp_path: Path) -> None:
    one = ring(10)
    add(one, 9)
    one.save(tmp_path)
    one.clear()
    assert len(one) == 0
    add(one, 6)  # 9 to 14, of which 12 to 15 would be a segment
    assert set(one.sample(99).obs_BD[:, 0]) == set(range(9, 15))
    one.save(tmp_path)
    assert files(tmp_path) == {}
    heir = ring(10)
    heir.load(tmp_path)
    assert numbers(heir) == list(range(9, 15))


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(3, 20),
    segment=st.integers(1, 7),
    acts=st.lists(st.sampled_from([1, 2, 3, "save", "clear", "heir"]), max_size=40),
)
def test_however_it_was_saved_it_comes_back_whole(
    capacity: int, segment: int, acts: list[int | str]
) -> None:
    one = ring(capacity, segment=segment)
    with TemporaryDirectory() as place:
        shared, alone = Path(place) / "shared", Path(place) / "alone"
        shared.mkdir()
        for act in [*acts, "save"]:
            if isinstance(act, int):
                add(one, act)
            elif act == "clear":
                one.clear()
            else:
                alone.mkdir()
                one.save(shared)  # onto what was saved before
                one.save(alone)
                assert contents(shared) == contents(alone)
                heir = ring(capacity, seed=5)
                heir.load(alone)
                assert numbers(heir) == numbers(one) == list(range(one.first, one.added))
                assert heir.rng.bit_generator.state == one.rng.bit_generator.state
                shutil.rmtree(alone)
                one = heir if act == "heir" else one


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_a_save_writes_no_more_than_what_is_new_and_two_rests(count: int, tmp_path: Path) -> None:
    one = ring(100)
    for _ in range(50):
        add(one, count)
        before = set(files(tmp_path))
        one.save(tmp_path)
        new = set(files(tmp_path)) - before
        assert len(new) <= count // 4 + 1
        assert (tmp_path / "replay.rest").stat().st_size <= 2 * 3 * 28
