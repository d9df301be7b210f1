"""Checkpoints: whole or not at all, on the disk, and found out when they are corrupt."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.trials import encoded, trial, until_saved
from rigorl.checkpoint import MANIFEST, PLACE, appearing, verify
from rigorl.checkpoint.sealed import seal
from rigorl.errors import StorageError
from rigorl.lockstep import play
from rigorl.outside.in_process import Alone
from rigorl.trial import Beat, Bundle, Event, Start

ONE = Bundle(trials=(trial(),))
Harm = Callable[[Path], Any]


@pytest.fixture(scope="module")
def whole() -> list[bytes]:
    """Return the reports of the run that nothing disturbs."""
    return encoded(play(ONE, Alone(), None))


def play_until(count: int, storage: Path) -> tuple[list[Event], list[Path]]:
    """Play until checkpoint *count* (of six) stands. Return what was told, and what stands."""
    told = until_saved(play(ONE, Alone(), storage), count)
    return told, standing(storage)


def standing(storage: Path) -> list[Path]:
    return sorted((storage / trial().id).glob("checkpoint-*"))


def written(folder: Path) -> Path:
    with appearing(folder) as draft:
        (draft / "a.txt").write_bytes(b"one")
        (draft / "in" / "deep").mkdir(parents=True)
        (draft / "in" / "deep" / "b.bin").write_bytes(bytes(9))
    return folder


def truncate(folder: Path) -> None:
    path = folder / "seeker.json"
    path.write_bytes(path.read_bytes()[:-1])


def flip(folder: Path) -> None:
    content = bytearray((folder / PLACE).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / PLACE).write_bytes(content)


def garble(folder: Path) -> None:
    """Put nonsense where the place was, as somebody would who knows how to seal it."""
    (folder / PLACE).write_bytes(b"\xc1 nonsense")
    (folder / MANIFEST).unlink()
    seal(folder)


HARMS: list[tuple[Harm, str]] = [
    (truncate, "seeker.json has 1.. bytes where 1.. were written"),
    (flip, "place.msgpack has changed: its checksum is another"),
    (garble, "place.msgpack cannot be read"),
    (lambda folder: (folder / MANIFEST).unlink(), "manifest.json is missing"),
    (lambda folder: (folder / MANIFEST).write_bytes(b"{"), "manifest.json cannot be read"),
    (lambda folder: (folder / "seeker.json").unlink(), "seeker.json is missing"),
    (lambda folder: (folder / PLACE).unlink(), "place.msgpack is missing"),
]
each_harm = pytest.mark.parametrize(("harm", "said"), HARMS)


@each_harm
def test_a_corrupt_newest_falls_back_to_the_one_before(
    harm: Harm, said: str, tmp_path: Path, whole: list[bytes]
) -> None:
    told, (before, last) = play_until(4, tmp_path)
    harm(last)
    start, *again = play(ONE, Alone(), tmp_path)
    assert isinstance(start, Start)
    assert (start.stage, start.step) == (1, 0)
    note = f"{last.name} is corrupt: {said}.*; went on from {before.name}$"
    assert re.match(note, start.note)
    assert encoded(told + again) == whole
    assert set(encoded(again)) < set(whole)  # it did not begin anew


@each_harm
def test_if_all_are_corrupt_the_trial_begins_anew(
    harm: Harm, said: str, tmp_path: Path, whole: list[bytes]
) -> None:
    _, both = play_until(4, tmp_path)
    for folder in both:
        harm(folder)
    start, *again = until_saved(play(ONE, Alone(), tmp_path), 1)
    assert isinstance(start, Start)
    assert (start.stage, start.step) == (0, 0)
    assert start.note.count("is corrupt") == 2
    assert start.note.endswith("began anew")
    assert [folder.name for folder in standing(tmp_path)] == ["checkpoint-0000-000000000016"]
    assert encoded([*again, *play(ONE, Alone(), tmp_path)]) == whole


@pytest.mark.parametrize("harm", [flip, garble])
def test_a_corrupt_last_one_makes_the_end_again(
    harm: Harm, tmp_path: Path, whole: list[bytes]
) -> None:
    told, (_, last) = play_until(6, tmp_path)
    harm(last)
    again = list(play(ONE, Alone(), tmp_path))
    assert encoded(again)[-1] == whole[-1]
    assert encoded(told + again) == whole


def test_it_may_happen_again_and_again(tmp_path: Path, whole: list[bytes]) -> None:
    told: list[Event] = []
    for _ in range(6):
        told += until_saved(play(ONE, Alone(), tmp_path), 2)
        flip(standing(tmp_path)[-1])
    assert encoded([*told, *play(ONE, Alone(), tmp_path)]) == whole


def test_two_are_kept_and_nothing_else(tmp_path: Path) -> None:
    counts = [
        len(standing(tmp_path))
        for event in play(ONE, Alone(), tmp_path)
        if isinstance(event, Beat) and event.saved
    ]
    assert counts == [1, 2, 2, 2, 2, 2]
    there = {path.name for path in (tmp_path / trial().id).iterdir()}
    names = {"checkpoint-0001-000000000032", "checkpoint-0002-000000000000", "policies"}
    assert there == names
    assert verify(tmp_path / trial().id / "policies") is None


def test_drafts_of_the_killed_are_cleared_away(tmp_path: Path) -> None:
    draft = tmp_path / ".checkpoint-0000-000000000016.1"
    draft.mkdir()
    (draft / "half").touch()
    written(tmp_path / "policies")
    assert {path.name for path in tmp_path.iterdir()} == {"policies"}


def test_no_byte_changes_unseen(tmp_path: Path) -> None:
    folder = written(tmp_path / "x")
    assert verify(folder) is None
    for path in filter(Path.is_file, folder.rglob("*")):
        content = path.read_bytes()
        for i in range(len(content)):
            path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
            assert verify(folder) is not None
        path.write_bytes(content)
    (folder / "extra").touch()
    assert verify(folder) is None
    (folder / "in" / "deep" / "b.bin").unlink()
    assert verify(folder) == "in/deep/b.bin is missing"


def test_all_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(opened: int) -> None:
        done.append(Path(f"/proc/self/fd/{opened}").resolve().name)
        fsync(opened)

    def watched_replace(path: Path, target: Path) -> Path:
        done.append("-> " + target.name)
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    written(tmp_path / "trial" / "x")
    draft = f".x.{os.getpid()}"
    expected = [tmp_path.name, "a.txt", "b.bin", MANIFEST, "in", "deep", draft, "-> x", "trial"]
    assert done == expected


def test_a_full_disk_leaves_what_stood(tmp_path: Path) -> None:
    folder = written(tmp_path / "x")

    def fill() -> None:
        with appearing(folder) as draft:
            (draft / "a.txt").symlink_to("/dev/full")
            (draft / "a.txt").write_bytes(b"two")

    with pytest.raises(StorageError, match=r"written whole, but .*x: No space left.*make room"):
        fill()
    assert list(tmp_path.iterdir()) == [folder]
    assert verify(folder) is None


@pytest.mark.parametrize("after", [0, 3, 5, 8, 27, 31, 33, 35])
def test_a_run_that_met_a_full_disk_goes_on_when_there_is_room(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[bytes]
) -> None:
    left, told = [after], list[Event]()

    def filling(_: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", filling)
        with pytest.raises(StorageError):
            told += play(ONE, Alone(), tmp_path)
    assert not list((tmp_path / trial().id).glob(".*"))
    assert encoded([*told, *play(ONE, Alone(), tmp_path)]) == whole


def test_a_bug_in_a_save_stays_a_bug(tmp_path: Path) -> None:
    def save(name: str) -> None:
        with appearing(tmp_path / "x") as draft:
            (draft / name).write_bytes(b"")

    with pytest.raises(FileNotFoundError):
        save("no/such")
    with pytest.raises(FileExistsError):
        save(MANIFEST)  # it would be lost
    assert not list(tmp_path.iterdir())


def test_tensors_that_do_not_fit_are_an_error_of_the_disk(tmp_path: Path) -> None:
    import torch

    from rigorl.blocks.storage import save_groups

    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        save_groups({"a": {"b": torch.zeros(3)}}, tmp_path / "full")
