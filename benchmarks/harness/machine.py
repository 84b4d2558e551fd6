"""The origin of the figures: device, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import psutil

PACKAGES = (
    "lumatile",
    "numpy",
    "numba",
    "pyarrow",
    "crc32c",
    "simplejpeg",
    "nvidia-dali-cuda130",
    "rerun-sdk",
    "zarr",
    "tensorstore",
    "pyvips",
    "pyvips-binary",
    "opencv-python-headless",
    "pillow",
)


def describe_machine(scratch: Path) -> dict[str, str]:
    """Return device, system, versions and commit by name; `scratch`: the directory that the benchmarks write in."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "cpu": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores used of {os.cpu_count()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "disk": _file_system(scratch),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "load": f"{os.getloadavg()[0]:.2f} when it began",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_system(path: Path) -> str:
    """Return type, device and mount options of the file system that holds `path`."""
    mounts = [p for p in psutil.disk_partitions(all=True) if path.resolve().is_relative_to(p.mountpoint)]
    if not mounts:
        return "unknown"
    mount = max(mounts, key=lambda p: len(p.mountpoint))
    return f"{mount.fstype} on {mount.device} ({mount.opts})"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + (", with changes" if changes.stdout.strip() else "")
