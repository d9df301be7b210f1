"""Recorded experience. To import this file takes minari, the extra `rigorl[offline]`."""

import os
from pathlib import Path
from typing import Any

import minari

from rigorl.errors import SpecError, nearest


def load(dataset_id: str) -> Any:
    """Return the Minari dataset called *dataset_id*; nothing is ever downloaded."""
    check(dataset_id)
    try:
        return minari.load_dataset(dataset_id)
    except (ImportError, OSError, ValueError) as error:
        raise SpecError(
            f"dataset must be readable, but {dataset_id!r} is not: {error}; mend it",
            "$.dataset",
        ) from error


def check(dataset_id: str) -> None:
    """Refuse a dataset that is not on this machine. Reads no data and creates no folder."""
    names = local()
    if dataset_id not in names:
        way_out = nearest(dataset_id, names) or f"; `minari download {dataset_id}` may bring it"
        raise SpecError(
            f"dataset must be on this machine, but {dataset_id!r} is not in {root()}{way_out}",
            "$.dataset",
        )


def local() -> list[str]:
    """Return the names of the datasets on this machine."""
    found = root().glob("**/data/metadata.json")
    return sorted(path.parent.parent.relative_to(root()).as_posix() for path in found)


def root() -> Path:
    """Return the folder where Minari keeps datasets: MINARI_DATASETS_PATH, or its own."""
    default = Path.home() / ".minari" / "datasets"
    return Path(os.environ.get("MINARI_DATASETS_PATH", default))
