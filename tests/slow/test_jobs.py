"""A study on a cluster that somebody started: sent once, followed, stopped, taken up again."""

import http.server
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
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest
import ray
from ray.runtime_env import RuntimeEnv

from helpers.commands import SPEC, changed, environment, rigorl
from helpers.heads import Head, Wire, free_port, head
from rigorl import arguments, remote
from rigorl.errors import IncompleteResults, JobError
from rigorl.outside import yaml_file
from rigorl.outside.journal import at_home
from rigorl.outside.on_ray import jobs, refusals, tail
from rigorl.outside.on_ray import order as orders
from rigorl.outside.on_ray.order import Order

pytestmark = pytest.mark.filterwarnings("default", "ignore:ssl=None:DeprecationWarning")
TOKEN = "planted-secret-0123456789"  # noqa: S105
SLOW = """
name: slow
question: Does it go on from where it was stopped?
arms:
  plain: {agent: {name: helpers.seeker, config: {rate: 0.02, pause: 0.02}}}
tasks: [{name: half, env: "helpers.worlds:Target-v0"}]
budget: {steps: 800, exam_every: 100, exam_episodes: 1, checkpoint_every: 100}
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
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with specs in it, where we are."""
    (tmp_path / "small.yaml").write_text(SPEC)
    (tmp_path / "slow.yaml").write_text(SLOW)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(*words: str) -> str:
    """Return what rigorl says to *words*, asked in this process."""
    args = arguments.parser().parse_args(words)
    return "\n".join(remote.VERBS[args.verb](args))


def start(place: Path, *words: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rigorl", *words],
        cwd=place,
        env={**environment(place), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def asked(url: str, **headers: str) -> str:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return str(answer.read().decode())


def ids(text: str) -> list[str]:
    return re.findall(r"^(rigorl-\S+): ", text, re.MULTILINE)


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


def wait_for_words(seen: str = "") -> None:
    """Wait until the driver tells of its progress, beyond what was *seen*."""
    until = time.monotonic() + 100
    while time.monotonic() < until:
        with suppress(IncompleteResults):
            if "steps/s" in told("logs", "slow.yaml").removeprefix(seen):
                return
        time.sleep(0.2)
    pytest.fail("the driver said nothing")


def test_a_broken_connection_is_made_again_and_no_line_comes_twice(cluster: Head) -> None:
    wire = Wire(cluster.port)
    client = jobs.connect(f"http://127.0.0.1:{wire.port}")
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
    client = jobs.connect(cluster.address)
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


def test_what_an_order_may_ask_is_what_ray_takes(place: Path) -> None:
    """Without a cluster: the whole lock is gigabytes."""
    plain = Order(spec=yaml_file.read(Path("slow.yaml")), file=Path("slow.yaml"))
    for named in (plain, plain._replace(env="lock"), plain._replace(image="registry/rigorl:1")):
        env = orders.runtime_env(named, place, place / "code")
        env.pop("working_dir", None)
        env.pop("py_modules", None)  # these become addresses when they are sent
        assert RuntimeEnv(**env)


def test_a_job_that_the_cluster_does_not_know_is_not_waited_for(cluster: Head) -> None:
    client = jobs.connect(cluster.address)
    with pytest.raises(jobs.Away, match="its head began anew; the same submit goes on"):
        list(tail.tail(client, "rigorl-none"))


def test_what_would_fail_there_is_refused_before_anything_is_sent(
    place: Path, cluster: Head
) -> None:
    mine = changed(SPEC, "plain: {agent: {name: helpers.seeker", "plain: {agent: {name: my_lab.one")
    (place / "mine.yaml").write_text(mine)
    keep = "--keep-on-head"
    unreachable = "postgresql://nobody@127.0.0.1:1/none"
    for words, said in (
        (("small.yaml",), "no place is named and the nodes have no RIGORL_HOME"),
        (("small.yaml", keep, "--set", "budget.gpus=1"), "asks for 1 CPU and 1 GPU on one node"),
        (("small.yaml", keep, "--journal", unreachable), "seen from the cluster: the journal"),
        (("mine.yaml", keep), "the cluster has no module my_lab.one; ship it with --with"),
    ):
        with pytest.raises(JobError, match=said):
            told("submit", *words, "--address", cluster.address)
    assert jobs.of_study(jobs.connect(cluster.address), "small") == []


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


class Gateway(http.server.BaseHTTPRequestHandler):
    """Has nobody behind it."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_gateway_without_a_head_is_one_that_does_not_answer(
    cluster: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come back: who follows asks again."""
    with http.server.HTTPServer(("127.0.0.1", 0), Gateway) as gateway:
        threading.Thread(target=gateway.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{gateway.server_port}"
        with pytest.raises(JobError, match="but nothing does at http://127"):
            jobs.connect(url)
        client = jobs.connect(cluster.address)
        monkeypatch.setattr(client, "_address", url)
        with pytest.raises(jobs.Unreachable):
            jobs.info(client, "rigorl-slow")
        gateway.shutdown()


def test_another_rigorl_is_refused_and_ours_travels_with_a_module_of_the_persons(
    place: Path, cluster: Head
) -> None:
    source = Path(remote.__file__).parent
    shutil.copytree(source, place / "ours" / "rigorl", ignore=shutil.ignore_patterns("*.pyc"))
    with (place / "ours" / "rigorl" / "crash.py").open("a") as module:
        module.write("# ours\n")
    (place / "my_lab").mkdir()
    (place / "my_lab" / "one.py").write_text("from helpers.seeker import *\n")
    (place / "mine.yaml").write_text(changed(SLOW, "helpers.seeker", "my_lab.one"))
    paths = os.pathsep.join([str(place / "ours"), environment(place)["PYTHONPATH"]])
    at = ("--keep-on-head", "--mlflow", "none", "--address", cluster.address)
    words = ("submit", "mine.yaml", *at, "--set", "budget.steps=100", "--with", "my_lab")
    refused = start(place, *words, PYTHONPATH=paths)
    said, _ = refused.communicate(timeout=100)
    assert refused.returncode == 2
    assert "a cluster must run this very rigorl" in said
    done = start(place, *words, "--code", "--wait", PYTHONPATH=paths)
    said, _ = done.communicate(timeout=200)
    assert done.returncode == 0, said
    assert said.count("What next:") == 1, "the job knows no paths of ours"
    assert said.index("What next:") < said.index("# slow")


def test_a_storage_that_each_node_has_for_itself_is_refused(place: Path, cluster: Head) -> None:
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    node = cluster.add_node(HOME=str(elsewhere))
    try:
        until = time.monotonic() + 60
        while _nodes(cluster) < 2 and time.monotonic() < until:
            time.sleep(0.2)
        words = ("submit", "small.yaml", "--address", cluster.address)
        with pytest.raises(JobError, match="must lie where every node sees them") as caught:
            told(*words, "--keep-on-head", "--storage", "~/x")
        assert f"which looked in {elsewhere}/x" in str(caught.value)
        assert not list(elsewhere.rglob(".rigorl-*"))
        args = arguments.parser().parse_args([*words, "--home", str(place / "seen by both")])
        wanted = remote._order(args)
        with jobs.Load(jobs.connect(cluster.address), wanted) as load:
            found = load.probe()
        assert refusals.judge(wanted, found, found["rigorl"]) == []
        assert not list((place / "seen by both").rglob(".rigorl-*"))
    finally:
        node.terminate()
        node.wait()


def _nodes(cluster: Head) -> int:
    found = json.loads(asked(f"{cluster.address}/nodes?view=summary"))["data"]["summary"]
    return sum(node["raylet"]["state"] == "ALIVE" for node in found)


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
    client, until = jobs.connect(cluster.address), time.monotonic() + 100
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
    client = jobs.connect(cluster.address)
    id_ = client.submit_job(entrypoint="echo line 1; echo line 2; sleep 2; printf end")
    lines = [line for line in tail.tail(client, id_) if line.startswith(("line", "end"))]
    assert lines == ["line 1", "line 2", "end"]


def test_a_journal_that_knows_nothing_of_the_study_is_not_followed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any) -> Iterator[str]:
        raise jobs.Away("its head began anew")

    at_home(place / ".rigorl").close()
    monkeypatch.setattr(remote, "tail", gone)
    args = arguments.parser().parse_args(["logs", "slow.yaml", "-f"])
    with pytest.raises(jobs.Away, match="its head began anew"):
        list(remote._tail(args, cast("jobs.Client", None), "rigorl-slow", "slow"))


def test_a_token_is_asked_for_and_never_told(place: Path) -> None:
    tokens = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    with head({**environment(place), **tokens}) as guarded:
        at = ("--keep-on-head", "--mlflow", "none", "--address", guarded.address)
        words = ("submit", "slow.yaml", *at)
        lost = {"RAY_AUTH_MODE": "token"}
        tries = [{}, lost, {**tokens, "RAY_AUTH_TOKEN": "x"}, tokens]
        going = [start(place, *words, **env) for env in tries]
        none, nowhere, wrong, right = (one.communicate(timeout=100)[0] for one in going)
        assert [one.returncode for one in going] == [2, 2, 2, 0], right
        assert all("got none; set RAY_AUTH_MODE=token and" in said for said in (none, nowhere))
        assert "refused it; correct RAY_AUTH_TOKEN" in wrong
        wait_for_words()
        known = asked(f"{guarded.address}/api/jobs/", Authorization=f"Bearer {TOKEN}")
        logs = (guarded.folder / "session_latest" / "logs").resolve()
        files = {path.name: path for path in logs.rglob("*") if path.is_file()}
        assert "rigorl run slow.yaml" in known
        assert [name for name in files if name.startswith("job-driver-rigorl-slow")]
        wrote = "".join(path.read_text(errors="replace") for path in files.values())
    assert TOKEN not in known + wrote + right + told("logs", "slow.yaml")


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
