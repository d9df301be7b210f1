"""What a cluster is like from the inside, as far as it can be told without one."""

import subprocess
import sys
from pathlib import Path

import pytest

from rigorl.outside.on_ray import probe

NODES = [
    {"Resources": {"CPU": 4.0, "memory": 1e9}, "Labels": {"zone": "a"}},
    {"Resources": {"CPU": 2.0, "GPU": 1.0}, "Labels": {"zone": "b"}},
]


def need(labels: dict[str, str] | None = None, **amounts: float) -> dict[str, object]:
    return {"amounts": amounts, "labels": labels or {}}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (need(CPU=4), []),
        (need(CPU=2, GPU=1), []),
        (need({"zone": "b"}, CPU=2), []),
        (need(CPU=8), ["8 CPU (4 on the best node)"]),
        (need(CPU=2, GPU=2), ["2 GPU (1 on the best node)"]),
        (need(CPU=4, GPU=1), ["{'CPU': 4, 'GPU': 1} together on one node"]),
        (need({"zone": "c"}, CPU=1), ["the labels {'zone': 'c'}"]),
    ],
)
def test_a_process_must_fit_on_one_node(asked: dict[str, object], said: list[str]) -> None:
    assert probe.unmet([asked], NODES) == said


def test_what_was_left_is_found_and_cleared(tmp_path: Path) -> None:
    place = str(tmp_path / "new")
    assert not probe.find(place, "token")
    probe.leave(place, "token")
    assert probe.find(place, "token")
    probe.forget(place, "token")
    probe.forget(place, "token")
    assert not list(Path(place).iterdir())


def test_a_disk_of_this_machine_does_not_outlast_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = """/dev/sda / ext4 rw 0 0
/dev/sdb /shared ext4 rw 0 0
server:/x /shared nfs4 rw 0 0
tmpfs /shared/local tmpfs rw 0 0
s3fs /bucket fuse.s3fs rw 0 0"""
    monkeypatch.setattr(Path, "read_text", lambda _: told)
    kept = ["/home/me", "/shared/me", "/shared/local/x", "/bucket/y", "s3://b/c", "file:///x", ""]
    assert [probe._outlasts(place) for place in kept] == [
        *(False, True, False, True, True, False, False)
    ]


def test_it_speaks_where_there_is_no_rigorl(tmp_path: Path) -> None:
    """The script travels alone: it must say so, and not fail."""
    script = tmp_path / "script.py"
    script.write_text(Path(probe.__file__).read_text())
    (tmp_path / probe.ASK).write_text('{"rigorl": "x", "modules": ["json", "no.such"]}')
    done = subprocess.run(
        [sys.executable, "-I", "-S", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith(probe.MARK), done.stderr
    assert '"rigorl": null, "missing": ["no.such"]' in done.stdout


def test_the_fingerprint_is_that_of_the_source(tmp_path: Path) -> None:
    found = probe.fingerprint()
    assert found is not None
    assert len(found) == 12
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from rigorl.outside.on_ray.probe import fingerprint; print(fingerprint())"
    )
    copy = tmp_path / "rigorl"
    root = Path(probe.__file__).parents[2]
    for path in root.rglob("*.py"):
        target = copy / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    run = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.check_output(run, text=True).strip() == found
    (copy / "crash.py").write_text("# other\n")
    assert subprocess.check_output(run, text=True).strip() != found
