"""Faults of a test's own choice in the system calls of a process, by strace."""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

CALLS = ("write", "pwrite64", "pwritev", "pwritev2", "ftruncate", "fsync", "fdatasync", "rename", "renameat")
"""What changes a file."""


def _why_not():
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run([strace, "-o", os.devnull, "true"], check=False, capture_output=True, text=True)
    return None if tried.returncode == 0 else f"strace cannot trace here: {tried.stderr.strip()[-100:]}"


NO_STRACE = _why_not()
needs_strace = pytest.mark.skipif(NO_STRACE is not None, reason=str(NO_STRACE))


def faulty(call, fault, when, log=Path(os.devnull)):
    """What a command begins with whose calls suffer; `when` counts for each thread. `log`: see `suffered`."""
    quick = [] if fault.startswith("signal") else ["--seccomp-bpf"]  # with it, strace sends no signal but the first
    command = ["strace", *quick, "-f", "-qq", "-o", str(log)]
    return [*command, f"-etrace={call}", f"-einject={call}:{fault}:when={when}"]


def suffered(log):
    """How many calls did."""
    with suppress(FileNotFoundError):
        return log.read_text(errors="replace").count("(INJECTED)") + log.read_text(errors="replace").count("(DELAYED)")
    return 0
