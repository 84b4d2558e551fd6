"""The directory that benchmarks write in: next to the sources, so that it is on a disk, not in a memory file system."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2] / "build"
"""The default place; git ignores it."""


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """Make an empty directory in `root`; afterwards delete it, and wait until pending writes have reached the disk."""
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        os.sync()


def file_sizes(folder: Path) -> list[int]:
    """Return the size of each file below `folder`, in bytes."""
    return [path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()]
