"""What trials keep in a bucket: the same promises as in a folder, held by an S3 of our own."""

import os
import re
import signal
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import tiny
from helpers.s3 import OURS, S3, SECRET, served
from helpers.trials import encoded, trial, until_saved
from rigorl import checkpoint, crash, experiment
from rigorl.blocks import replay
from rigorl.checkpoint import MANIFEST, PLACE, Place, Store, find, leave, try_out, verify
from rigorl.errors import IncompleteResults, StorageError
from rigorl.lockstep import play
from rigorl.outside import bucket, optuna_ask
from rigorl.outside.in_process import Alone, InProcess, Memory
from rigorl.run import Run
from rigorl.spec import AgentSpec
from rigorl.trial import Bundle, Event, Start

TESTS = Path(__file__).parents[1]
ONE = Bundle(trials=(trial(),))
SAC = {"learning_starts": 4, "batch": 4, "hidden": [4], "capacity": 32, "update_ratio": 0.5}
GROWING = trial(agent=AgentSpec(name="sac", config=SAC))
CHILD = """
import sys
import msgspec
from rigorl.blocks import replay
from rigorl.outside.in_process import Alone
from rigorl.outside.bucket import opened
from rigorl.lockstep import play
from rigorl.trial import Bundle
replay.SEGMENT = 4
bundle = msgspec.msgpack.decode(bytes.fromhex(sys.argv[1]), type=Bundle)
for event in play(bundle, Alone(), opened(sys.argv[2])):
    print(msgspec.msgpack.encode(event).hex(), flush=True)
"""
Harm = Callable[[S3, str], Any]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "SEGMENT", 4)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with served() as s3:
        yield s3


@pytest.fixture
def root(s3: S3, request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own, and a prefix in it."""
    name = f"bucket-{zlib.crc32(request.node.nodeid.encode())}"
    s3.files.create_dir(name)
    return f"{name}/some/where"


@pytest.fixture
def store(s3: S3, root: str) -> Store:
    return bucket.opened(s3.url(root))


@pytest.fixture(scope="module")
def whole() -> list[bytes]:
    return encoded(play(ONE, Alone(), None))


@pytest.fixture(scope="module")
def whole_growing() -> list[bytes]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(replay, "SEGMENT", 4)
        return encoded(play(Bundle(trials=(GROWING,)), Alone(), None))


def names(store: Store, of: str = ONE.id) -> list[str]:
    return store.below(of).names()


def assert_clean(s3: S3, root: str, of: str = ONE.id) -> None:
    """All that is there stands, and is as it was written."""
    store = bucket.opened(s3.url(root)).below(of)
    there = store.names()
    assert {key.partition("/")[0] for key in s3.keys(f"{root}/{of}")} == set(there)
    assert len(there) == checkpoint.KEPT + ("policies" in there)
    for name in there:
        with store.lent(name) as folder:
            assert folder is not None
            assert verify(folder) is None
            known = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
            assert {f"{name}/{key}" for key in known} <= set(s3.keys(f"{root}/{of}"))


@pytest.mark.parametrize("count", range(1, 7))
def test_left_after_any_checkpoint_it_is_the_run_that_was_not(
    count: int, s3: S3, root: str, store: Store, whole: list[bytes]
) -> None:
    told = until_saved(play(ONE, Alone(), store), count)
    assert len(checkpoint.checkpoints(store.below(ONE.id))) == min(count, checkpoint.KEPT)
    start, *again = play(ONE, Alone(), store)
    assert isinstance(start, Start)
    assert (start.stage, start.step) == (count // 3, (0, 16, 32)[count % 3])
    assert encoded([*told, *again]) == whole
    assert len(again) < len(told) or count < 4
    assert_clean(s3, root)
    assert list(Run(ONE.trials[0], Alone(), store)) == []


@pytest.mark.parametrize("count", range(1, 6))
def test_segments_too(
    count: int, s3: S3, root: str, store: Store, whole_growing: list[bytes]
) -> None:
    one = Bundle(trials=(GROWING,))
    told = until_saved(play(one, Alone(), store), count)
    assert encoded([*told, *play(one, Alone(), store)]) == whole_growing
    assert_clean(s3, root, GROWING.id)


def truncate(s3: S3, folder: str) -> None:
    s3.write(f"{folder}/seeker.json", s3.read(f"{folder}/seeker.json")[:-1])


def flip(s3: S3, key: str) -> None:
    content = bytearray(s3.read(key))
    content[len(content) // 2] ^= 1
    s3.write(key, bytes(content))


HARMS: list[tuple[Harm, str]] = [
    (truncate, "seeker.json has 1.. bytes where 1.. were written"),
    (lambda s3, at: flip(s3, f"{at}/{PLACE}"), f"{PLACE} has changed: its checksum is another"),
    (lambda s3, at: s3.files.delete_file(f"{at}/seeker.json"), "seeker.json is missing"),
    (lambda s3, at: s3.write(f"{at}/{MANIFEST}", b"{"), f"{MANIFEST} cannot be read"),
    (
        lambda s3, at: s3.write(f"{at}/{MANIFEST}", b'{"../x": {"size": 1, "blake2b": ""}}'),
        f"{MANIFEST} cannot be read",
    ),
]


@pytest.mark.parametrize(("harm", "said"), HARMS)
def test_a_corrupt_newest_falls_back_to_the_one_before(
    harm: Harm, said: str, s3: S3, root: str, store: Store, whole: list[bytes]
) -> None:
    told = until_saved(play(ONE, Alone(), store), 4)
    before, last = names(store)
    harm(s3, f"{root}/{ONE.id}/{last}")
    start, *again = play(ONE, Alone(), store)
    assert isinstance(start, Start)
    assert (start.stage, start.step) == (1, 0)
    assert re.match(f"{last} is corrupt: {said}.*; went on from {before}$", start.note)
    assert encoded(told + again) == whole
    assert_clean(s3, root)


def test_if_all_are_corrupt_the_trial_begins_anew(
    s3: S3, root: str, store: Store, whole: list[bytes]
) -> None:
    until_saved(play(ONE, Alone(), store), 4)
    for name in names(store):
        truncate(s3, f"{root}/{ONE.id}/{name}")
    start, *again = until_saved(play(ONE, Alone(), store), 1)
    assert isinstance(start, Start)
    assert start.note.count("is corrupt") == 2
    assert start.note.endswith("began anew")
    assert names(store) == ["checkpoint-0000-000000000016"]
    assert encoded([*again, *play(ONE, Alone(), store)]) == whole


def test_what_has_no_manifest_is_not_there(
    s3: S3, root: str, store: Store, whole: list[bytes]
) -> None:
    told = until_saved(play(ONE, Alone(), store), 4)
    before, last = names(store)
    s3.files.delete_file(f"{root}/{ONE.id}/{last}/{MANIFEST}")
    assert names(store) == [before]
    start, *again = play(ONE, Alone(), store)
    assert isinstance(start, Start)
    assert (start.stage, start.step, start.note) == (1, 0, "")
    assert encoded(told + again) == whole
    assert_clean(s3, root)


def killed_at(point: str, bundle: Bundle, url: str, scar: Path) -> list[Event]:
    """Play in a process that dies at *point*; return what it told before."""
    path = os.pathsep.join([str(Path(crash.__file__).parents[1]), str(TESTS)])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, msgspec.msgpack.encode(bundle).hex(), url],
        env={**os.environ, **OURS, "PYTHONPATH": path, crash.VARIABLE: f"{point}:{scar}"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    lines = done.stdout.splitlines()
    return [msgspec.msgpack.decode(bytes.fromhex(line), type=Event) for line in lines]


@pytest.mark.parametrize(
    ("point", "taken_up", "standing"),
    [
        ("checkpoint.write:3", (0, 32), 2),
        ("checkpoint.before_rename:5", (1, 16), 2),  # all is up but the manifest
        ("checkpoint.after_rename:4", (1, 16), 3),
        ("checkpoint.before_rename:6", (1, 32), 2),  # of the final policies
        ("checkpoint.after_rename:6", (1, 32), 3),  # they stand, the last checkpoint does not
        ("learn:60", (1, 16), 2),
    ],
)
@pytest.mark.parametrize("growing", [False, True])
def test_what_a_kill_leaves_is_taken_up_to_the_same_end(
    growing: bool,
    point: str,
    taken_up: tuple[int, int],
    standing: int,
    s3: S3,
    root: str,
    store: Store,
    tmp_path: Path,
    whole: list[bytes],
    whole_growing: list[bytes],
) -> None:
    bundle = Bundle(trials=(GROWING,)) if growing else ONE
    told = killed_at(point, bundle, s3.url(root), tmp_path / "scar")
    assert len(names(store, bundle.id)) == standing
    start, *again = play(bundle, Alone(), store)
    assert isinstance(start, Start)
    assert start.note == ""
    assert growing or (start.stage, start.step) == taken_up
    assert encoded(told + again) == (whole_growing if growing else whole)
    assert_clean(s3, root, bundle.id)


def test_a_segment_goes_up_once_in_the_life_of_a_trial(s3: S3, root: str, store: Store) -> None:
    with s3.listening() as asked:
        until_saved(play(Bundle(trials=(GROWING,)), Alone(), store), 5)
    segments = [one for one in asked if one.method == "PUT" and one.key.endswith(".segment")]
    up = Counter(one.key.rpartition("/")[2] for one in segments if not one.copied)
    copied = Counter(one.key.rpartition("/")[2] for one in segments if one.copied)
    assert set(up.values()) == {1}
    assert len(up) == 17  # it has lived 70 steps, and four fill a segment
    assert copied.keys() < up.keys()
    last = names(store, GROWING.id)[-1]
    there = {key for key in s3.keys(f"{root}/{GROWING.id}/{last}") if key.endswith(".segment")}
    assert there == {replay.segment_name(first) for first in range(40, 68, 4)}


def test_the_manifest_goes_up_last_and_away_first(s3: S3, store: Store) -> None:
    with s3.listening() as asked:
        until_saved(play(Bundle(trials=(GROWING,)), Alone(), store), 5)
    put = [one.key for one in asked if one.method == "PUT" and not one.key.endswith("/")]
    for name in {key.split("/")[-2] for key in put}:
        files = [key.rpartition("/")[2] for key in put if f"/{name}/" in key]
        assert files.index(MANIFEST) == len(files) - 1, files
    told = [(one.method, one.key.rpartition("/")[2]) for one in asked]
    away = [i for i, one in enumerate(told) if one == ("DELETE", MANIFEST)]
    rest = [i for i, one in enumerate(told) if one[0] == "POST"]  # many files at once
    assert len(away) == len(rest) == 3  # of five, two are kept
    assert sorted(away + rest) == [i for pair in zip(away, rest, strict=True) for i in pair]


def test_a_harmed_segment_is_found_out_however_often_it_was_copied(
    s3: S3, root: str, store: Store, whole_growing: list[bytes]
) -> None:
    one = Bundle(trials=(GROWING,))
    events = play(one, Alone(), store)
    told = until_saved(events, 2)
    last = names(store, GROWING.id)[-1]
    harmed = next(k for k in reversed(s3.keys(f"{root}/{one.id}/{last}")) if "segment" in k)
    flip(s3, f"{root}/{one.id}/{last}/{harmed}")
    told += until_saved(events, 1)
    start, *again = play(one, Alone(), store)
    assert isinstance(start, Start)
    assert start.note.count(f"{harmed} has changed") == 2
    assert start.note.endswith("began anew")
    assert encoded([*told, *again]) == whole_growing


def test_what_stood_in_may_be_removed_or_written_anew(s3: S3, root: str, store: Store) -> None:
    def save(folder: Path) -> None:
        (folder / "in").mkdir()
        for name in ("0.segment", "1.segment", "in/2.segment", "in/3.segment"):
            (folder / name).write_bytes(name.encode())

    def again(folder: Path) -> None:
        assert {path.stat().st_size for path in folder.rglob("*.segment")} == {0}
        (folder / "0.segment").unlink()
        (folder / "1.segment").write_bytes(b"anew")

    first = checkpoint.write(store, Place(step=1), save)
    second = checkpoint.write(store, Place(step=2), again, first)
    with store.lent(first) as one, store.lent(second) as other:
        assert one is not None
        assert other is not None
        assert (verify(one), verify(other)) == (None, None)
        found = sorted(path.relative_to(other).as_posix() for path in other.rglob("*.segment"))
        assert found == ["1.segment", "in/2.segment", "in/3.segment"]
        assert (one / "1.segment").read_bytes() == b"1.segment"
        assert (other / "1.segment").read_bytes() == b"anew"
        assert (other / "in" / "2.segment").read_bytes() == b"in/2.segment"


def test_what_is_gone_has_no_stand_in(s3: S3, root: str, store: Store) -> None:
    def save(folder: Path) -> None:
        seen.append(sorted(path.name for path in folder.iterdir()))
        for name in ("0.segment", "1.segment"):
            if not (folder / name).exists():
                (folder / name).write_bytes(name.encode())

    seen: list[list[str]] = []
    first = checkpoint.write(store, Place(step=1), save)
    s3.files.delete_file(f"{root}/{first}/0.segment")
    second = checkpoint.write(store, Place(step=2), save, first)
    s3.files.delete_file(f"{root}/{second}/{MANIFEST}")
    checkpoint.write(store, Place(step=3), save, second)
    assert seen == [[], ["1.segment"], []]
    with store.lent("checkpoint-0000-000000000003") as folder:
        assert folder is not None
        assert verify(folder) is None


def test_what_the_killed_have_left_is_cleared_away(s3: S3, root: str, store: Store) -> None:
    checkpoint.write(store, Place(step=1), None)
    there = s3.keys(root)
    s3.write(f"{root}/checkpoint-0000-000000000009/half", b"half")
    s3.write(f"{root}/policies/in/half", b"half")
    second = checkpoint.write(store, Place(step=2), None)
    assert s3.keys(root) == [*there, f"{second}/{MANIFEST}", f"{second}/{PLACE}"]


def test_a_place_may_be_written_twice(s3: S3, store: Store) -> None:
    def save(folder: Path) -> None:
        if not (folder / "0.segment").exists():
            (folder / "0.segment").write_bytes(b"zero")

    first = checkpoint.write(store, Place(step=1), save)
    assert checkpoint.write(store, Place(step=1), save, first) == first
    with store.lent(first) as folder:
        assert folder is not None
        assert verify(folder) is None
        assert (folder / "0.segment").read_bytes() == b"zero"


def test_a_draft_that_fails_leaves_what_stood(s3: S3, root: str, store: Store) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise RuntimeError("a bug stays a bug")

    first = checkpoint.write(store, Place(step=1), None)
    there = s3.keys(root)
    with pytest.raises(RuntimeError):
        checkpoint.write(store, Place(step=2), fail, first)
    with pytest.raises(FileExistsError):
        checkpoint.write(store, Place(step=2), lambda folder: (folder / MANIFEST).touch(), first)
    with pytest.raises(StorageError, match=r"written whole, but .*No space left.*TMPDIR"):
        checkpoint.write(store, Place(step=2), fill)
    assert s3.keys(root) == there


def fill(folder: Path) -> None:
    (folder / "x").symlink_to("/dev/full")
    (folder / "x").write_bytes(b"x")


def test_two_trials_do_not_touch_each_other(
    s3: S3, root: str, store: Store, whole: list[bytes]
) -> None:
    two = Bundle(trials=(trial(), trial(seed=1)))
    told: list[Event] = []
    for count in (3, 4):
        told += until_saved(play(two, Alone(), store), count)
    told += play(two, Alone(), store)
    for each in two.trials:
        ours = [event for event in told if event.trial == each.id]
        alone = encoded(play(Bundle(trials=(each,)), Alone(), None))
        assert encoded(ours) == alone
        assert_clean(s3, root, each.id)


def test_final_policies_are_given_to_the_trial_that_comes_after(
    s3: S3, root: str, store: Store
) -> None:
    first = trial()
    second = trial(agent=AgentSpec(name="frozen", config={}), after=first.id)
    with pytest.raises(IncompleteResults, match=f"{root}/{first.id}.* holds none; play that one"):
        Run(second, Alone(), store)
    list(play(Bundle(trials=(first,)), Alone(), store))
    assert list(Run(second, Alone(), store).given) == ["constant"]
    key = next(key for key in s3.keys(f"{root}/{first.id}/policies") if "constant.json" in key)
    flip(s3, f"{root}/{first.id}/policies/{key}")
    with pytest.raises(StorageError, match=f"/policies: {key} has changed.*; put a copy of"):
        Run(second, Alone(), store)


def test_what_is_written_again_takes_the_place_of_all_that_was_there(
    s3: S3, root: str, store: Store
) -> None:
    for content in (b"one", b"two"):
        with s3.listening() as asked, store.appearing("policies") as draft:
            (draft / content.decode()).write_bytes(content)
    assert s3.keys(root) == [f"policies/{MANIFEST}", "policies/two"]
    changes = [(one.method, one.key.rpartition("/")[2]) for one in asked if one.method != "GET"]
    gone, up, whole = (
        changes.index(change)
        for change in (("DELETE", MANIFEST), ("PUT", "two"), ("PUT", MANIFEST))
    )
    assert gone < up < whole  # never are there files under a manifest that is not theirs


def refused(error: pytest.ExceptionInfo[StorageError], *words: str) -> None:
    said = str(error.value)
    assert all(word in said for word in words), said
    assert SECRET not in said
    assert OURS["AWS_ACCESS_KEY_ID"] not in said


def test_a_bucket_that_is_not_there_is_an_error_before_anything_is_played(s3: S3) -> None:
    journal, cluster = Memory(), InProcess(s3.url("no-such-bucket/x"))
    with pytest.raises(StorageError) as error:
        experiment.run(tiny(), cluster, journal, optuna_ask.ask)
    refused(error, "s3://no-such-bucket/x", "there is no such bucket; make it, or name another")
    assert not journal.trials


def test_an_endpoint_that_is_away_is_an_error_and_no_corruption(
    s3: S3, root: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    until_saved(play(ONE, Alone(), store), 2)
    away = bucket.opened(f"s3://{root}?endpoint_override=127.0.0.1:9&scheme=http", attempts=2)
    for use in (lambda: list(play(ONE, Alone(), away)), lambda: try_out(away)):
        with pytest.raises(StorageError) as error:
            use()
        refused(error, f"s3://{root}", "127.0.0.1:9", "does not answer; see that it can be reached")
    assert len(names(store)) == 2


def test_credentials_that_are_refused_are_an_error_and_are_not_told(
    s3: S3, root: str, store: Store
) -> None:
    until_saved(play(ONE, Alone(), store), 2)
    for use in (
        lambda: list(play(ONE, Alone(), store)),
        lambda: try_out(store),
        lambda: store.remove("checkpoint-x"),
    ):
        with s3.refusing(), pytest.raises(StorageError) as error:
            use()
        refused(error, f"s3://{root}", "see ", "credentials")
    assert len(names(store)) == 2


def test_a_token_is_found_by_another_process_and_once(s3: S3, root: str, store: Store) -> None:
    code = (
        "import sys; from rigorl.outside.bucket import opened; from rigorl.checkpoint import leave;"
        "leave(opened(sys.argv[1]), 'theirs')"
    )
    path = os.pathsep.join([str(Path(crash.__file__).parents[1]), str(TESTS)])
    environment = {**os.environ, **OURS, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code, s3.url(root)], env=environment, check=True)
    leave(store, "ours")
    assert not find(bucket.opened(s3.url(f"{root}/else")), "theirs")
    seen = [find(store, token) for token in ("theirs", "theirs", "ours", "never")]
    assert seen == [True, False, True, False]
    try_out(store)
    assert s3.keys(root) == []


def test_a_bucket_without_a_prefix_will_do(s3: S3, whole: list[bytes]) -> None:
    s3.files.create_dir("bare")
    store = bucket.opened(s3.url("bare"))
    try_out(store)
    told = until_saved(play(ONE, Alone(), store), 3)
    assert encoded([*told, *play(ONE, Alone(), store)]) == whole
    assert_clean(s3, "bare")
