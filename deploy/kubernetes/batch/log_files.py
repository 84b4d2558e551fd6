"""Log the image files below a directory, in tasks of a Ray cluster; they go to $LUMATILE_SINK.

`log_files.py DIRECTORY`. Entity paths are the files' own. A task that Ray runs again logs its files once more.
"""  # noqa: INP001 - a program, not a module

from __future__ import annotations

import argparse
import os
import sys
import uuid
from pathlib import Path

import ray

import lumatile as lt

FILES = 64
"""Of one task."""

TASK_SECONDS = 600.0
"""Longest wait of a task until its files are stored."""


def log_files(recording_id: str, directory: Path, names: list[str]) -> int:
    """Log files of `directory`, and wait until the service has stored them; how many.

    Raises LumatileError; OSError where they are not at the service in the end.
    """
    recording = lt.new_recording("log-files", recording_id, strict=True)
    try:
        for name in names:
            recording.log_image_file(name, img_path=directory / name, timeless=True)
        if recording.flush(TASK_SECONDS) != "store":
            raise OSError(f"{recording_id}: the service is away, and what is spooled here goes with this machine")
    finally:
        recording.disconnect()
    return len(names)


def main() -> None:
    """Run the tasks; say how many files they logged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--recording", default=os.environ.get("LUMATILE_RECORDING_ID") or uuid.uuid4().hex)
    arguments = parser.parse_args()
    directory = arguments.directory.absolute()
    names = sorted(
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.suffix.lower() in {".jpg", ".jpeg", ".png"}
    )
    task = ray.remote(log_files)
    results = [task.remote(arguments.recording, directory, names[i : i + FILES]) for i in range(0, len(names), FILES)]
    sys.stdout.write(f"{sum(ray.get(results))} files are in recording {arguments.recording}\n")


if __name__ == "__main__":
    main()
