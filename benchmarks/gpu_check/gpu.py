"""The device that is checked, and the origin of the figures."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from lumatile_kernels.cuda.arrays import DEVICES
from lumatile_kernels.cuda.cuda_device import CudaDevice
from lumatile_kernels.device import Memory

PACKAGES = ("numpy", "cupy", "torch", "triton", "numba", "nvidia.dali", "simplejpeg", "PIL", "torchvision")

POISON = 0xA5


class PoisonedDevice(CudaDevice):
    """A GPU whose new memory is filled with a pattern."""

    def __init__(self) -> None:
        """Use the current device, also for copies of tensors. Raises BackendUnavailableError."""
        super().__init__()
        DEVICES[self.number] = self

    def allocate(self, nbytes: int) -> Memory:
        """See Device."""
        memory = super().allocate(nbytes)
        runtime = self._cupy.cuda.runtime
        with self._current():
            runtime.memset(memory.pointer, POISON, nbytes)
            runtime.deviceSynchronize()
        return memory


def describe(device: CudaDevice) -> dict[str, str]:
    """Return device, versions and commit by name."""
    import cupy

    runtime = cupy.cuda.runtime
    known = metadata.packages_distributions()
    nvrtc = ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
    properties = runtime.getDeviceProperties(device.number)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "device": (
            f"{device.name}, compute capability {device.architecture / 10:.1f}, "
            f"{device.multiprocessors} multiprocessors, {int(properties['totalGlobalMem']) / 2**30:.0f} GiB, "
            f"{int(properties.get('l2CacheSize', 0)) / 2**20:.0f} MiB of L2 cache"
        ),
        "driver": f"{_driver()}, for CUDA {_cuda(runtime.driverGetVersion())}",
        "CUDA": f"runtime {_cuda(runtime.runtimeGetVersion())}, NVRTC {nvrtc}",
        "cpu": _cpu(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {_version(name, known)}" for name in PACKAGES),
    }


def _cuda(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    return (
        _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]).partition("\n")[0] or "unknown"
    )


def _cpu() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {os.cpu_count()} cores"


def _version(package: str, known: Mapping[str, list[str]]) -> str:
    """Return the version of a package without importing it; `known`: distributions by package."""
    try:
        distributions = known.get(package.partition(".")[0], [])
        if package == "nvidia.dali":
            distributions = [d for d in distributions if "dali" in d]
        return metadata.version(distributions[0]) if distributions else "absent"
    except metadata.PackageNotFoundError:
        return "absent"


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent)]
    if shutil.which("git") is None:
        return "unknown"
    head = _output([*git, "rev-parse", "--short=12", "HEAD"])
    if not head:
        return "unknown"
    return head + (", with changes" if _output([*git, "status", "--porcelain", "-uno"]) else "")


def _output(command: list[str]) -> str:
    """Return the output of a command, empty if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def absent(module: str) -> str:
    """Return the reason why a module cannot be imported, empty if it can."""
    try:
        importlib.import_module(module)
    except Exception as e:  # noqa: BLE001 - broken packages raise anything
        return f"{module} is not here: {str(e).splitlines()[0] if str(e) else type(e).__name__}"
    return ""


def free_bytes() -> int:
    """Return the free device memory, in bytes."""
    import cupy

    free: Any = cupy.cuda.runtime.memGetInfo()[0]
    return int(free)
