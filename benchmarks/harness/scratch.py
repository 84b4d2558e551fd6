"""Where benchmarks write: a directory beside the tree, so on a disk and not in a memory file system."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2] / "build"
"""Ignored by git."""


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """An empty directory in `root`; gone afterwards, with whatever was still on its way to the disk."""
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        os.sync()


def file_sizes(folder: Path) -> list[int]:
    """Bytes of each file below `folder`."""
    return [path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()]
