"""A study whose trials live in a bucket, sent to a cluster: each node is asked for it first."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.commands import SPEC, environment, rigorl
from helpers.heads import Head, head
from helpers.s3 import S3, SECRET, served
from rigorl import arguments, remote
from rigorl.errors import JobError
from rigorl.outside.on_ray import jobs
from rigorl.outside.on_ray.dashboard import connect

pytestmark = pytest.mark.filterwarnings("default", "ignore:ssl=None:DeprecationWarning")


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with served("lab") as s3:
        yield s3


@pytest.fixture
def cluster(s3: S3, tmp_path: Path) -> Iterator[Head]:
    """A cluster that has RIGORL_STORAGE, and finds the bucket by a variable."""
    there = {"RIGORL_STORAGE": "s3://lab/studies", "AWS_ENDPOINT_URL": f"http://{s3.host}"}
    with head({**environment(tmp_path), **there}) as started:
        yield started


def test_a_bucket_is_tried_from_the_head_and_from_each_node_before_anything_is_sent(
    cluster: Head, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SPEC)
    at = ("--address", cluster.address, "--home", str(tmp_path / "home"), "--mlflow", "none")
    words = ("submit", "small.yaml", "--keep-on-head", *at)

    def refused(*more: str) -> str:
        args = arguments.parser().parse_args([*words, *more])
        with pytest.raises(JobError) as caught:
            list(remote.submit(args))
        assert SECRET not in str(caught.value)
        return str(caught.value)

    said = refused("--storage", "s3://not-there/x")
    assert "seen from the cluster: " in said
    assert "there is no such bucket; make it" in said

    node = cluster.add_node(AWS_ENDPOINT_URL="http://127.0.0.1:9")
    until = time.monotonic() + 90
    while cluster.alive() < 2:
        assert time.monotonic() < until
        time.sleep(0.2)
    said = refused()
    assert "seen from node" in said
    assert "it does not answer; see that it can be reached from every node" in said
    cluster.lose(node)
    assert jobs.of_study(connect(cluster.address), "small") == []
    assert s3.keys("lab") == []

    done = rigorl(tmp_path, *words, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert s3.keys("lab/studies")
    assert not (tmp_path / "home" / "trials").exists()
