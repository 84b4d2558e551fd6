"""Small disks that really fill up."""

import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def tmpfs(mount, size):
    """A file system of `size`, "24m" for example, at a new directory; skips the test where none can be mounted."""
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mount)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
