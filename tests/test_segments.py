"""Segments: written once, shared by later checkpoints, and no less safe for it. Played by SAC."""

import errno
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from helpers.trials import encoded, trial, until_saved
from rigorl import checkpoint
from rigorl.blocks import replay
from rigorl.checkpoint import MANIFEST, Folder, Place, appearing, verify
from rigorl.errors import StorageError
from rigorl.lockstep import play
from rigorl.outside.in_process import Alone
from rigorl.spec import AgentSpec
from rigorl.trial import Bundle, Start

SAC = {"learning_starts": 4, "batch": 4, "hidden": [4], "capacity": 32, "update_ratio": 0.5}
TRIAL = trial(agent=AgentSpec(name="sac", config=SAC))
ONE = Bundle(trials=(TRIAL,))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "SEGMENT", 4)


@pytest.fixture(scope="module")
def whole() -> list[bytes]:
    """Return the reports of the run that nothing disturbs."""
    return encoded(play(ONE, Alone(), None))


def standing(storage: Path) -> list[Path]:
    return sorted((storage / TRIAL.id).glob("checkpoint-*"))


def shared(before: Path, last: Path) -> list[str]:
    there = [
        {path.name: path.stat().st_ino for path in f.glob("*.segment")} for f in (before, last)
    ]
    return sorted(name for name, inode in there[0].items() if there[1].get(name) == inode)


def flip(path: Path) -> None:
    """Change a byte where it lies, in all folders that share the file."""
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))


def test_a_segment_is_written_and_flushed_once_in_the_life_of_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: Counter[str] = Counter()
    fsync = os.fsync

    def watched(opened: int) -> None:
        flushed[Path(f"/proc/self/fd/{opened}").resolve().name] += 1
        fsync(opened)

    monkeypatch.setattr(os, "fsync", watched)
    until_saved(play(ONE, Alone(), tmp_path), 5)
    before, last = standing(tmp_path)
    # It has lived 70 steps, 55 at the checkpoint before; the ring holds the last 32.
    names = [replay.segment_name(first) for first in range(40, 68, 4)]
    assert sorted(path.name for path in last.glob("*.segment")) == names
    assert shared(before, last) == names[:3]
    assert {n for name, n in flushed.items() if name.endswith(".segment")} == {1}
    assert flushed["replay.rest"] == 5
    assert verify(before) is None
    assert verify(last) is None


@pytest.mark.parametrize("refused", [errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EMLINK])
def test_where_links_are_refused_there_are_copies(
    refused: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[bytes]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(refused, os.strerror(refused))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    told = until_saved(play(ONE, Alone(), tmp_path), 3)
    before, last = standing(tmp_path)
    assert shared(before, last) == []
    names = [replay.segment_name(first) for first in range(8, 40, 4)]
    assert sorted(path.name for path in last.glob("*.segment")) == names
    assert verify(last) is None
    assert encoded([*told, *play(ONE, Alone(), tmp_path)]) == whole


@pytest.mark.parametrize("count", [2, 4, 5])
def test_a_segment_that_one_checkpoint_has_lost_leaves_the_one_before(
    count: int, tmp_path: Path, whole: list[bytes]
) -> None:
    told = until_saved(play(ONE, Alone(), tmp_path), count)
    before, last = standing(tmp_path)
    segment = last / shared(before, last)[0]
    content = bytearray(segment.read_bytes())
    content[0] ^= 1
    segment.unlink()  # so the other link is not harmed
    segment.write_bytes(content)
    start, *again = play(ONE, Alone(), tmp_path)
    assert isinstance(start, Start)
    assert f"{segment.name} has changed" in start.note
    assert start.note.endswith(f"went on from {before.name}")
    assert encoded(told + again) == whole


def test_the_harmed_newest_hands_nothing_on(tmp_path: Path) -> None:
    until_saved(play(ONE, Alone(), tmp_path), 2)
    before, last = standing(tmp_path)
    harmed = last / shared(before, last)[-1]
    content = harmed.read_bytes()
    harmed.unlink()
    harmed.write_bytes(bytes(len(content)))  # of the right size, and wrong
    until_saved(play(ONE, Alone(), tmp_path), 2)
    for folder in standing(tmp_path):
        assert verify(folder) is None
        assert (folder / harmed.name).read_bytes() == content


def test_a_file_that_is_harmed_in_all_checkpoints_is_seen_in_all(
    tmp_path: Path, whole: list[bytes]
) -> None:
    told = until_saved(play(ONE, Alone(), tmp_path), 4)
    before, last = standing(tmp_path)
    flip(last / shared(before, last)[0])
    start, *again = play(ONE, Alone(), tmp_path)
    assert isinstance(start, Start)
    assert (start.stage, start.step) == (0, 0)
    assert start.note.count("has changed") == 2
    assert start.note.endswith("began anew")
    assert encoded(told + again) == whole


def test_a_harm_that_is_carried_on_is_still_seen(tmp_path: Path) -> None:
    events = play(ONE, Alone(), tmp_path)
    until_saved(events, 2)
    before, last = standing(tmp_path)
    flip(last / shared(before, last)[-1])
    until_saved(events, 1)  # does not read what it shares
    assert str(verify(standing(tmp_path)[-1])).endswith("has changed: its checksum is another")


@pytest.mark.parametrize("count", range(1, 6))
def test_killed_after_any_checkpoint_it_is_the_run_that_was_not(
    count: int, tmp_path: Path, whole: list[bytes]
) -> None:
    told = until_saved(play(ONE, Alone(), tmp_path), count)
    assert encoded([*told, *play(ONE, Alone(), tmp_path)]) == whole


def test_a_draft_that_fails_takes_nothing_from_the_one_it_shares_with(tmp_path: Path) -> None:
    def save(folder: Path) -> None:
        (folder / "0.segment").write_bytes(b"zero")
        (folder / "in").mkdir()
        (folder / "in" / "1.segment").write_bytes(b"one")

    def fail(folder: Path) -> None:
        (folder / "0.segment").unlink()
        assert (folder / "in" / "1.segment").read_bytes() == b"one"
        raise OSError(errno.ENOSPC, "full")

    store = Folder(tmp_path)
    name = checkpoint.write(store, Place(step=1), save)
    first = tmp_path / name
    with pytest.raises(StorageError):
        checkpoint.write(store, Place(step=2), fail, name)
    assert verify(first) is None
    again = checkpoint.write(store, Place(step=2), lambda f: (f / "0.segment").unlink(), name)
    second = tmp_path / again
    assert verify(second) is None
    assert sorted(path.name for path in second.rglob("*.segment")) == ["1.segment"]
    assert "0.segment" not in (second / MANIFEST).read_text()
    assert (first / "0.segment").read_bytes() == b"zero"


@pytest.mark.parametrize("lost", [MANIFEST, "0.segment", "."])
def test_what_is_gone_is_not_shared(lost: str, tmp_path: Path) -> None:
    def save(folder: Path) -> None:
        if not (folder / "0.segment").exists():
            (folder / "0.segment").write_bytes(b"zero")

    name = checkpoint.write(Folder(tmp_path), Place(step=1), save)
    first = tmp_path / name
    if lost == ".":
        shutil.rmtree(first)
    else:
        (first / lost).unlink()
    second = tmp_path / checkpoint.write(Folder(tmp_path), Place(step=2), save, name)
    assert verify(second) is None
    assert (second / "0.segment").read_bytes() == b"zero"


def test_other_folders_share_nothing(tmp_path: Path) -> None:
    with appearing(tmp_path / "x") as draft:
        (draft / "0.segment").write_bytes(b"zero")
    with appearing(tmp_path / "x") as draft:
        assert not list(draft.iterdir())
