"""Points to die at: the process dies there and then, once, and else nothing happens."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rigorl import crash
from rigorl.errors import SpecError

CODE = "from rigorl import crash; crash.point('exam'), crash.point('learn'), crash.point('exam')"


def passing(order: str) -> subprocess.CompletedProcess[bytes]:
    """Pass `exam`, `learn` and `exam` in another process."""
    root = Path(crash.__file__).parents[1]
    env = {"PYTHONPATH": str(root), crash.VARIABLE: order}
    return subprocess.run([sys.executable, "-c", CODE], env=env, check=False)


@pytest.mark.parametrize(
    ("at", "dies"), [("exam:2", True), ("exam:3", False), ("verdict:1", False)]
)
def test_it_dies_the_nth_time_it_comes_by(at: str, dies: bool, tmp_path: Path) -> None:
    scar = tmp_path / "sc:ar"
    assert passing(f"{at}:{scar}").returncode == (-signal.SIGKILL if dies else 0)
    assert scar.exists() == dies


def test_it_dies_once(tmp_path: Path) -> None:
    order = f"learn:1:{tmp_path / 'scar'}"
    assert [passing(order).returncode for _ in range(2)] == [-signal.SIGKILL, 0]


def test_unarmed_a_point_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(crash.VARIABLE, raising=False)
    monkeypatch.setattr(os, "kill", pytest.fail)
    for name in crash.POINTS:
        crash.point(name)


def test_a_point_must_have_a_name() -> None:
    with pytest.raises(AssertionError, match="lunch"):
        crash.point("lunch")


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ("lern:1:scar", "begin with a point.*did you mean 'learn'"),
        ("learn", "`name:n:scar`.*write, for instance"),
        ("learn:0:scar", "`name:n:scar`"),
        ("learn:x:scar", "`name:n:scar`"),
        ("learn:1:", "`name:n:scar`"),
        ("learn:1:/no/such/folder/scar", "one can make.*No such file.*choose another"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(
    order: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crash, "_passed", crash.Counter())
    monkeypatch.setenv(crash.VARIABLE, order)
    with pytest.raises(SpecError, match=said):
        crash.point("learn")
