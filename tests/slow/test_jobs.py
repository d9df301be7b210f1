"""A study on a cluster that somebody started: sent once, followed, stopped, taken up again."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from helpers.commands import SPEC, changed, environment, rigorl
from helpers.heads import Head, Wire, free_port, head
from rigorl import remote
from rigorl.errors import JobError
from rigorl.outside.on_ray import jobs, tail

pytestmark = pytest.mark.filterwarnings("default")
TOKEN = "planted-secret-0123456789"  # noqa: S105
SLOW = """
name: slow
question: Does it go on from where it was stopped?
arms:
  plain: {agent: {name: helpers.seeker, config: {rate: 0.02, pause: 0.02}}}
tasks: [{name: half, env: "helpers.worlds:Target-v0"}]
budget: {steps: 400, exam_every: 100, exam_episodes: 1, checkpoint_every: 100}
seeds: {test: [0, 1]}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world")


@pytest.fixture(scope="module")
def cluster(world: Path) -> Iterator[Head]:
    with head(environment(world)) as started:
        yield started


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SPEC)
    (tmp_path / "slow.yaml").write_text(SLOW)
    return tmp_path


def submit(place: Path, cluster: Head, *words: str) -> subprocess.CompletedProcess[str]:
    where = ("--address", cluster.address, "--mlflow", "none")
    return rigorl(place, "submit", *words, *where)


def start(place: Path, *words: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rigorl", *words],
        cwd=place,
        env={**environment(place), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def called(
    place: Path, env: dict[str, str], command: list[str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=place, env=env, capture_output=True, text=True, check=False, timeout=200
    )


def asked(url: str, **headers: str) -> str:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return str(answer.read().decode())


def ids(text: str) -> list[str]:
    return re.findall(r"^(rigorl-\S+): ", text, re.MULTILINE)


def test_it_is_played_there_to_its_end_and_the_same_command_plays_nothing_twice(
    place: Path, cluster: Head
) -> None:
    done = submit(place, cluster, "small.yaml", "--keep-on-head", "--wait")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "on the head's own disk: what the head loses is lost" in done.stdout
    told = rigorl(place, "report", "small.yaml")
    assert told.stdout.strip() in done.stdout
    assert told.stdout.strip() in rigorl(place, "logs", "small.yaml").stdout
    again = submit(place, cluster, "small.yaml", "--keep-on-head", "--wait")
    assert again.returncode == 0
    assert ids(again.stdout)[0] == f"{ids(done.stdout)[0]}-2"
    assert told.stdout.strip() in again.stdout


def test_two_who_submit_at_once_play_it_once_and_a_stop_is_heard_from_anywhere(
    place: Path, cluster: Head
) -> None:
    at = ("--address", cluster.address)
    words = ("submit", "slow.yaml", "--keep-on-head", "--mlflow", "none", *at)
    both = [start(place, *words) for _ in range(2)]
    said = [one.communicate(timeout=60)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    (id_,) = {found for text in said for found in ids(text)}
    assert sorted("attached" in text for text in said) == [False, True]
    assert "logs slow.yaml -f --address" in said[0]

    here, there = (start(place, "logs", "slow.yaml", "-f", *w) for w in ((), at))
    third = rigorl(place, *words)
    assert f"{id_}: attached: it is running already" in third.stdout
    found = json.loads(rigorl(place, "status", "slow.yaml", "--json", *at).stdout)
    assert [(job["id"], job["state"]) for job in found["jobs"]] == [(id_, "RUNNING")]
    while not rigorl(place, "logs", "slow.yaml").stdout:
        time.sleep(0.2)
    stopped = rigorl(place, "stop", "slow.yaml")
    assert stopped.returncode == 0
    assert "slow: stopped; the same command goes on from there" in stopped.stdout
    for follower in (here, there):
        text, _ = follower.communicate(timeout=30)
        assert text.count("stopping at the next checkpoint") == 1
        assert text.count("stopped; the same command goes on from here") == 1
        assert follower.returncode == 0

    going = rigorl(place, *words)
    assert f"{id_}-2: submitted, attempt 2" in going.stdout
    time.sleep(4)
    ended = rigorl(place, "stop", "slow.yaml", *at)
    assert f"{id_}-2: stopped; the same command goes on from there" in ended.stdout
    told = rigorl(place, "status", "slow.yaml", *at).stdout
    assert f"{id_}: stopped; sent" in told
    assert "# slow: stopped" in told
    assert "there is nothing to stop" in rigorl(place, "stop", "slow.yaml").stdout


def test_a_broken_connection_is_made_again_and_no_line_comes_twice(cluster: Head) -> None:
    wire = Wire(cluster.port)
    client = jobs.connect(f"http://127.0.0.1:{wire.port}")
    command = "for i in $(seq 60); do echo line $i; sleep 0.1; done; printf end"
    id_ = client.submit_job(entrypoint=command)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(tail.tail(client, id_)))
    reader.start()
    cut = 0
    for _ in range(3):
        time.sleep(2)
        cut += wire.cut()
    reader.join(60)
    wire.close()
    assert cut >= 2
    ours = [line for line in lines if line.startswith(("line", "end"))]
    assert ours == [*(f"line {i}" for i in range(1, 61)), "end"]


def test_what_would_fail_there_is_refused_before_anything_is_sent(
    place: Path, cluster: Head
) -> None:
    (place / "far").mkdir()
    (place / "far" / "my_lab").mkdir()
    (place / "far" / "my_lab" / "one.py").write_text("from helpers.seeker import *\n")
    mine = changed(SPEC, "plain: {agent: {name: helpers.seeker", "plain: {agent: {name: my_lab.one")
    (place / "mine.yaml").write_text(mine)
    keep = ("--keep-on-head",)
    client = jobs.connect(cluster.address)
    before = jobs.of_study(client, "small")
    unreachable = "postgresql://nobody@127.0.0.1:1/none"
    for words, said in (
        (("small.yaml",), "no place is named and the nodes have no RIGORL_HOME"),
        (("small.yaml", *keep, "--set", "budget.gpus=1"), "asks for 1 GPU (0 on the best node)"),
        (("small.yaml", *keep, "--journal", unreachable), "seen from the cluster: the journal"),
        (("mine.yaml", *keep), "the cluster has no module my_lab.one; ship it with --with"),
    ):
        done = submit(place, cluster, *words)
        assert done.returncode == 2, done.stdout
        (line,) = done.stderr.strip().splitlines()
        assert said in line
    assert jobs.of_study(client, "small") == before
    shipped = ("--with", "far/my_lab", "--set", "budget.steps=20", "--wait")
    done = submit(place, cluster, "mine.yaml", *keep, *shipped)
    assert done.returncode == 0, done.stderr + done.stdout


def test_what_is_not_a_cluster_of_this_ray_is_told_in_words(
    cluster: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JobError, match="nothing does at http://127"):
        jobs.connect(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(JobError, match="must be that of its dashboard, but is ray://head"):
        jobs.connect("ray://head:10001")
    command = [sys.executable, "-m", "http.server", str(port := free_port()), "-b", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as other:
        time.sleep(1)
        with pytest.raises(JobError, match="is something else; it is the one at port 8265"):
            jobs.connect(f"127.0.0.1:{port}")
        other.terminate()
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # what is said aloud counts
    assert jobs.connect(cluster.address)
    monkeypatch.setattr(ray, "__version__", "2.59.0")
    with pytest.raises(JobError, match=r"runs Ray 2\.60\.0 and this is 2\.59\.0"):
        jobs.connect(cluster.address)


def test_another_rigorl_is_refused_and_code_ships_this_one(place: Path, cluster: Head) -> None:
    source = Path(remote.__file__).parent
    shutil.copytree(source, place / "ours" / "rigorl", ignore=shutil.ignore_patterns("*.pyc"))
    with (place / "ours" / "rigorl" / "crash.py").open("a") as module:
        module.write("# ours\n")
    env = environment(place)
    env["PYTHONPATH"] = os.pathsep.join([str(place / "ours"), env["PYTHONPATH"]])
    words = ["submit", "small.yaml", "--keep-on-head", "--mlflow", "none"]
    command = [sys.executable, "-m", "rigorl", *words, "--address", cluster.address]
    refused = called(place, env, command)
    assert refused.returncode == 2, refused.stdout
    assert "a cluster must run this very rigorl" in refused.stderr
    done = called(place, env, [*command, "--code", "--wait"])
    assert done.returncode == 0, done.stderr + done.stdout


def test_a_storage_that_each_node_has_for_itself_is_refused(place: Path, cluster: Head) -> None:
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    node = cluster.add_node(HOME=str(elsewhere))
    try:
        until = time.monotonic() + 60
        while _nodes(cluster) < 2 and time.monotonic() < until:
            time.sleep(0.2)
        done = submit(place, cluster, "small.yaml", "--keep-on-head", "--storage", "~/x")
        assert done.returncode == 2, done.stdout
        assert "checkpoints must lie where every node sees them" in done.stderr
        assert f"which looked in {elsewhere}/x" in done.stderr
        assert not list(elsewhere.rglob(".rigorl-*"))
        assert not list(place.rglob(".rigorl-*"))
        seen = submit(place, cluster, "small.yaml", "--home", str(place / "shared"))
        assert seen.returncode == 0, seen.stderr
    finally:
        node.terminate()
        node.wait()


def _nodes(cluster: Head) -> int:
    found = json.loads(asked(f"{cluster.address}/nodes?view=summary"))["data"]["summary"]
    return sum(node["raylet"]["state"] == "ALIVE" for node in found)


def test_a_token_is_asked_for_and_never_told_and_a_lost_head_leaves_its_words(
    place: Path,
) -> None:
    tokens = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    with head({**environment(place), **tokens}) as guarded:
        words = ("slow.yaml", "--address", guarded.address)
        sent = ("submit", *words, "--keep-on-head", "--mlflow", "none")
        none, _ = start(place, *sent).communicate(timeout=60)
        assert "got none; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in none
        wrong, _ = start(place, *sent, **{**tokens, "RAY_AUTH_TOKEN": "x"}).communicate(timeout=60)
        assert "refused it; correct RAY_AUTH_TOKEN" in wrong
        more = ("--set", "budget.steps=4000", "--set", "arms.plain.agent.config.pause=0.05")
        done = start(place, *sent, *more, **tokens)
        said, _ = done.communicate(timeout=60)
        assert done.returncode == 0, said
        follower = start(place, "logs", *words, "-f", **tokens)
        while "steps/s" not in rigorl(place, "logs", "slow.yaml").stdout:
            time.sleep(0.2)
        assert TOKEN not in _told(guarded)
        guarded.kill()
        guarded.begin()
        text, _ = follower.communicate(timeout=90)
    assert follower.returncode == 0, text
    assert "its head began anew; the same submit goes on" in text
    assert "what follows is from the journal" in text
    assert "# slow: died" in rigorl(place, "status", "slow.yaml").stdout
    progress = [line for line in text.splitlines() if "steps/s" in line]
    assert progress
    assert TOKEN not in said + text


def _told(cluster: Head) -> str:
    """Return all that the cluster tells of its jobs, and all that it wrote about them."""
    told = asked(f"{cluster.address}/api/jobs/", Authorization=f"Bearer {TOKEN}")
    assert "rigorl run slow.yaml" in told
    logs = (cluster.folder / "session_latest" / "logs").resolve()
    files = [path for path in logs.rglob("*") if path.is_file()]
    assert any("job-driver-rigorl-slow" in path.name for path in files)
    return told + "".join(path.read_text(errors="replace") for path in files)
