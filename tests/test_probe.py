"""What a cluster is like from the inside, as far as it can be told without one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rigorl.outside.on_ray import probe


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


@pytest.mark.parametrize(("name", "there"), [("json", True), ("json.decoder", True), ("", False)])
def test_what_is_no_module_is_not_there(name: str, there: bool) -> None:
    assert probe.is_there(name) == there


ASKED = {"home": "/shared", "storage": "", "journal": "", "mlflow": "none"}


def test_what_is_not_named_is_where_the_nodes_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RIGORL_STORAGE", "RIGORL_JOURNAL"):
        monkeypatch.delenv(name, raising=False)
    kept = {"storage": "/shared/trials", "home": "/shared", "journal": "/shared"}
    assert probe.places(ASKED)["kept"] == kept
    monkeypatch.setenv("RIGORL_STORAGE", "s3://lab/trials")
    found = probe.places(ASKED)
    assert found["kept"] == kept | {"storage": "s3://lab/trials"}
    assert found["storage_error"] == ""
    assert "storage" not in found["passing"]
    assert probe.places({**ASKED, "storage": "/here"})["kept"]["storage"] == "/here"


def test_a_secret_of_the_nodes_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the probe prints can be read by all who see the dashboard."""
    monkeypatch.setenv("RIGORL_STORAGE", "s3://key:hunter2@lab/trials")
    monkeypatch.setenv("RIGORL_JOURNAL", "postgresql://me:hunter2@127.0.0.1:1/db?password=hunter2")
    monkeypatch.setattr(probe, "JOURNAL_S", 0.0)
    found = probe.places(ASKED)
    assert "without credentials" in found["storage_error"]
    assert "postgresql+psycopg://me:***@127.0.0.1:1/db says" in found["journal_error"]
    assert "hunter2" not in json.dumps(found)
