"""The quickstart gives one verdict: in one process, on local Ray, on a cluster that loses a node.

Here with a smaller budget; `make everywhere` plays it as it is shipped.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import ROOT, environment, rigorl
from helpers.heads import Head, head

pytestmark = pytest.mark.filterwarnings("default")
SPEC = str(ROOT / "experiments" / "quickstart.yaml")
SMALL = (
    "arms.tuned.search.candidates=2",
    "seeds.test=[0,1]",
    "budget.steps=1024",
    "budget.exam_every=512",
)
SET = () if os.environ.get("WHOLE") else tuple(w for s in SMALL for w in ("--set", s))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Head]:
    """A head that only looks after others."""
    with head(environment(tmp_path), cpus=0) as started:
        yield started


def verdict(place: Path, *words: str) -> Any:
    done = rigorl(place, "run", SPEC, *SET, "--mlflow", "none", "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def trials_finished(place: Path) -> int:
    found = json.loads(rigorl(place, "status", "--home", str(place / "far"), "--json").stdout)
    return sum(count["finished"] for study in found.values() for count in study["arms"].values())


def started(cluster: Head, number: int) -> list[Any]:
    """Return so many nodes, started one after another: all at once they wait for each other."""
    nodes = []
    for alive in range(2, number + 2):
        nodes.append(cluster.add_node())
        while cluster.alive() < alive:
            assert nodes[-1].poll() is None, "a node did not come up"
            time.sleep(0.2)
    return nodes


@pytest.mark.timeout(900)
def test_the_quickstart_gives_one_verdict_wherever_it_is_played(
    tmp_path: Path, cluster: Head
) -> None:
    nodes = started(cluster, 4)
    alone = verdict(tmp_path, "--local", "--home", "alone")
    assert verdict(tmp_path, "--home", "ray") == alone

    kept = ("--home", str(tmp_path / "far"))
    words = (
        "submit",
        SPEC,
        *SET,
        "--mlflow",
        "none",
        "--address",
        cluster.address,
        "--keep-on-head",
    )
    sent = rigorl(tmp_path, *words, *kept)
    assert sent.returncode == 0, sent.stderr
    while not (tmp_path / "far" / "journal.db").exists() or not trials_finished(tmp_path):
        time.sleep(0.5)
    cluster.lose(nodes[0])
    followed = rigorl(tmp_path, *words, *kept, "--wait")
    assert followed.returncode == 0, followed.stdout + followed.stderr
    said = followed.stdout + followed.stderr
    # A quick machine may have come to the end before it is asked again.
    assert "attached" in said or "attempt 2: it goes on where it was" in said
    report = rigorl(tmp_path, "report", SPEC, *SET, *kept, "--json")
    assert json.loads(report.stdout) == alone
    why = rigorl(tmp_path, "status", SPEC, "--why", *kept)
    assert "was lost" in why.stdout or "done" in why.stdout
