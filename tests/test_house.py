"""Laws of the house that no linter knows."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from rigorl import tabling
from rigorl.outside import yaml_file

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "experiments").rglob("*.yaml"))


def test_the_source_root_is_not_a_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert platform.python_version()


def test_experiments_are_shipped() -> None:
    assert ROOT / "experiments" / "quickstart.yaml" in SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_every_shipped_experiment_is_named_after_its_file(path: Path) -> None:
    read = tabling.read if yaml_file.has(path, "searches") else yaml_file.read
    assert read(path).name == path.stem.replace("_", "-")


def test_the_core_needs_neither_torch_nor_a_foreign_system() -> None:
    foreign = ["torch", "ray", "mlflow", "optuna", "yaml", "sqlalchemy", "plotly", "pandas"]
    foreign += ["pyarrow"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({foreign}));"
        "import rigorl.experiment, rigorl.run, rigorl.report;"
        "import rigorl.agents.frozen, rigorl.agents.uniform"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT / "platform")
    assert done.returncode == 0
