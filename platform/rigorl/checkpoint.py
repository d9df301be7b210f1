"""Folders that are there whole or not at all."""

import os
import shutil
from pathlib import Path


class Appearing:
    """Lends a draft to write into; without an error it takes its place in one move."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.draft = folder.with_name(f".{folder.name}.{os.getpid()}")

    def __enter__(self) -> Path:
        shutil.rmtree(self.draft, ignore_errors=True)
        self.draft.mkdir(parents=True)
        return self.draft

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            shutil.rmtree(self.draft, ignore_errors=True)
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.draft.replace(self.folder)
