"""A study on a cluster that somebody started: sent once, followed, stopped, taken up again."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest

from helpers.commands import environment, rigorl
from helpers.heads import Head, Wire, head
from helpers.sent import ids, specs, start, told, wait_for_words
from rigorl import arguments, remote
from rigorl.errors import IncompleteResults, JobError
from rigorl.outside.journal import at_home
from rigorl.outside.on_ray import jobs, tail
from rigorl.outside.on_ray.dashboard import Away, Client, connect

pytestmark = pytest.mark.filterwarnings("default", "ignore:ssl=None:DeprecationWarning")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with head(environment(tmp_path_factory.mktemp("world"))) as started:
        yield started


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return specs(tmp_path, monkeypatch)


def test_it_is_sent_once_stopped_from_anywhere_and_taken_up_to_its_end(
    place: Path, cluster: Head
) -> None:
    at = ("--address", cluster.address)
    words = ("submit", "slow.yaml", "--keep-on-head", "--mlflow", "none", *at)
    both = [start(place, *words) for _ in range(2)]
    said = [one.communicate(timeout=100)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    (id_,) = {found for text in said for found in ids(text)}
    assert sorted("attached" in text for text in said) == [False, True]
    assert "on the head's own disk: what the head loses is lost" in "".join(said)
    assert "logs slow.yaml -f --address" in said[0]

    here, there = (start(place, "logs", "slow.yaml", "-f", *w) for w in ((), at))
    assert f"{id_}: attached: it is" in told(*words)
    wait_for_words()
    (job,) = json.loads(told("status", "slow.yaml", "--json", *at))["jobs"]
    assert (job["id"], job["state"]) == (id_, "RUNNING")
    assert "slow: stopped; the same command goes on from there" in told("stop", "slow.yaml")
    for follower in (here, there):
        text, _ = follower.communicate(timeout=60)
        assert text.count("stopping at the next checkpoint") == 1
        assert text.count("stopped; the same command goes on from here") == 1
        assert follower.returncode == 0
    assert "there is nothing to stop" in told("stop", "slow.yaml")

    seen = told("logs", "slow.yaml")
    assert f"{id_}-2: submitted, attempt 2" in told(*words)
    wait_for_words(seen)
    ended = told("stop", "slow.yaml", *at)
    assert f"{id_}-2: stopped; the same command goes on from there" in ended
    found = told("status", "slow.yaml", *at)
    assert f"{id_}: stopped; sent" in found
    assert "# slow: stopped" in found
    assert "stopped; the same command goes on from here" in told("logs", "slow.yaml", *at)

    last = rigorl(place, *words, "--wait")
    assert last.returncode == 0, last.stderr
    assert ids(last.stdout)[0] == f"{id_}-3"
    page = rigorl(place, "report", "slow.yaml").stdout.strip()
    assert page in last.stdout
    assert page in told("logs", "slow.yaml")


def test_a_broken_connection_is_made_again_and_no_line_comes_twice(cluster: Head) -> None:
    wire = Wire(cluster.port)
    client = connect(f"http://127.0.0.1:{wire.port}")
    command = "for i in $(seq 50); do echo line $i; sleep 0.1; done; printf end"
    id_ = client.submit_job(entrypoint=command)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(tail.tail(client, id_)))
    reader.start()
    cut = 0
    for _ in range(3):
        time.sleep(1.5)
        cut += wire.cut()
    reader.join(60)
    wire.close()
    assert cut >= 2
    ours = [line for line in lines if line.startswith(("line", "end"))]
    assert ours == [*(f"line {i}" for i in range(1, 51)), "end"]


def test_who_waits_ends_as_the_job_does(place: Path, cluster: Head) -> None:
    client = connect(cluster.address)
    sent = {c: client.submit_job(entrypoint=f"echo words; exit {c}") for c in (0, 1, 2)}
    args = arguments.parser().parse_args(["logs", "slow.yaml", "--address", cluster.address])
    ended: list[int] = []

    def drain(id_: str) -> Iterator[str]:
        ended.append((yield from remote._wait(args, client, id_, "slow")))

    assert all("words" in list(drain(id_)) for id_ in sent.values())
    assert ended == [0, 1, 2]
    stopped = client.submit_job(entrypoint="exec sleep 60")
    while jobs.info(client, stopped).state != "RUNNING":
        time.sleep(0.2)
    client.stop_job(stopped)
    list(drain(stopped))
    assert ended[-1] == 143


def test_a_job_that_the_cluster_does_not_know_is_not_waited_for(cluster: Head) -> None:
    client = connect(cluster.address)
    with pytest.raises(Away, match="its head began anew; the same submit goes on"):
        list(tail.tail(client, "rigorl-none"))


def test_another_spec_of_a_study_that_is_played_does_not_attach(place: Path, cluster: Head) -> None:
    at = ("--address", cluster.address)
    words = ("submit", "slow.yaml", "--set", "name=held", "--keep-on-head", "--mlflow", "none", *at)
    told(*words)
    with pytest.raises(JobError, match="plays 'held' from another one; wait for its end"):
        told(*words, "--set", "seeds.test=[0,1,2]")
    held = ("slow.yaml", "--set", "name=held", *at)
    both = ("submit", *held, "--keep-on-head", "--mlflow", "none", "--home", "elsewhere")
    told(*both)
    with pytest.raises(JobError, match=r"must be one study, but here play rigorl-held-.* and "):
        told("stop", *held)
    client, until = connect(cluster.address), time.monotonic() + 100
    while any(not job.over for job in jobs.of_study(client, "held")):
        assert time.monotonic() < until
        for home in (".rigorl", "elsewhere"):
            with suppress(IncompleteResults):  # it has not begun yet
                told("stop", *held[:3], "--home", home, "--no-wait")
        time.sleep(0.5)


def test_what_a_stream_leaves_out_is_told_when_the_job_is_over(
    cluster: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway may end a stream in good order, though the job goes on."""
    whole, begun = tail._stream, []

    def short(*words: Any) -> Iterator[str]:
        begun.append(words)
        yield from islice(whole(*words), 1 if len(begun) == 1 else 0)

    monkeypatch.setattr(tail, "_stream", short)
    client = connect(cluster.address)
    id_ = client.submit_job(entrypoint="echo line 1; echo line 2; sleep 2; printf end")
    lines = [line for line in tail.tail(client, id_) if line.startswith(("line", "end"))]
    assert lines == ["line 1", "line 2", "end"]


def test_a_journal_that_knows_nothing_of_the_study_is_not_followed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any) -> Iterator[str]:
        raise Away("its head began anew")

    at_home(place / ".rigorl").close()
    monkeypatch.setattr(remote, "tail", gone)
    args = arguments.parser().parse_args(["logs", "slow.yaml", "-f"])
    with pytest.raises(Away, match="its head began anew"):
        list(remote._tail(args, cast("Client", None), "rigorl-slow", "slow"))


def test_a_head_that_is_lost_leaves_its_words_in_the_journal(
    place: Path, cluster: Head, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last test: it takes the cluster with it."""
    monkeypatch.setattr(tail, "AWAY_S", 1.0)
    at = ("--address", cluster.address)
    told("submit", "slow.yaml", "--keep-on-head", "--mlflow", "none", *at)
    wait_for_words()
    args = arguments.parser().parse_args(["logs", "slow.yaml", "-f", *at])
    lines = []
    for line in remote.VERBS["logs"](args):
        lines.append(line)
        if "steps/s" in line:
            cluster.kill()
    assert "the cluster does not answer; asking again" in caplog.text
    assert "what follows is from the journal" in caplog.text
    assert len(set(lines)) == len(lines)
    assert "its driver died" in rigorl(place, "status", "slow.yaml").stdout
