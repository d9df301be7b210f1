"""What a cluster would not play, or would lose, is refused in words before anything is sent."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.runtime_env import RuntimeEnv

from helpers.commands import SPEC, changed, environment
from helpers.heads import Head, free_port, head
from helpers.sent import SLOW, asked, specs, start, told, wait_for_words
from rigorl import arguments, remote
from rigorl.errors import JobError
from rigorl.outside import yaml_file
from rigorl.outside.on_ray import jobs, refusals
from rigorl.outside.on_ray import order as orders
from rigorl.outside.on_ray.dashboard import Unreachable, connect
from rigorl.outside.on_ray.order import Order

pytestmark = pytest.mark.filterwarnings("default", "ignore:ssl=None:DeprecationWarning")
TOKEN = "planted-secret-0123456789"  # noqa: S105


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with head(environment(tmp_path_factory.mktemp("world"))) as started:
        yield started


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return specs(tmp_path, monkeypatch)


def test_what_an_order_may_ask_is_what_ray_takes(place: Path) -> None:
    """Without a cluster: the whole lock is gigabytes."""
    plain = Order(spec=yaml_file.read(Path("slow.yaml")), file=Path("slow.yaml"))
    for named in (plain, plain._replace(env="lock"), plain._replace(image="registry/rigorl:1")):
        env = orders.runtime_env(named, place, place / "code")
        env.pop("working_dir", None)
        env.pop("py_modules", None)  # these become addresses when they are sent
        assert RuntimeEnv(**env)


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
    assert jobs.of_study(connect(cluster.address), "small") == []


def test_what_is_not_a_cluster_of_this_ray_is_told_in_words(
    cluster: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JobError, match="nothing does at http://127"):
        connect(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(JobError, match="must be that of its dashboard, but is ray://head"):
        connect("ray://head:10001")
    command = [sys.executable, "-m", "http.server", str(port := free_port()), "-b", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as other:
        time.sleep(1)
        with pytest.raises(JobError, match="is something else; it is the one at port 8265"):
            connect(f"127.0.0.1:{port}")
        other.terminate()
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # what is said aloud counts
    assert connect(cluster.address)
    monkeypatch.setattr(ray, "__version__", "2.59.0")
    with pytest.raises(JobError, match=r"runs Ray 2\.60\.0 and this is 2\.59\.0"):
        connect(cluster.address)


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
            connect(url)
        client = connect(cluster.address)
        monkeypatch.setattr(client, "_address", url)
        with pytest.raises(Unreachable):
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
        with jobs.Load(connect(cluster.address), wanted) as load:
            found = load.probe()
        assert refusals.judge(wanted, found, found["rigorl"]) == []
        assert not list((place / "seen by both").rglob(".rigorl-*"))
    finally:
        node.terminate()
        node.wait()


def _nodes(cluster: Head) -> int:
    found = json.loads(asked(f"{cluster.address}/nodes?view=summary"))["data"]["summary"]
    return sum(node["raylet"]["state"] == "ALIVE" for node in found)


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
