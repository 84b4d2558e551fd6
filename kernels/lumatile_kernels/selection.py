"""The choice of a backend: made once, where a pipeline is built."""

from __future__ import annotations

import ctypes
import logging
import sys
from functools import partial
from importlib.util import find_spec
from typing import get_args

from lumatile_kernels.backend import Backend, BackendName, BackendUnavailableError

log = logging.getLogger(__name__)


def select_backend(name: str = "auto", *, threads: int | None = None) -> Backend:
    """Return the backend called `name`.

    Args:
        name: "numpy", "numba", "cuda", or "auto": the fastest that can run on this machine, which is logged at INFO.
            Without a GPU, "auto" computes the first small frames with numpy, and imports numba when that pays.
        threads: the number of threads that compute together on the host; None: one for each core that this process
            may use.

    Returns:
        The backend. One thread at a time may use it.

    Raises:
        ValueError: `name` is another name.
        BackendUnavailableError: The backend cannot run on this machine.
    """
    if name == "numpy":
        from lumatile_kernels.host.numpy_backend import NumpyBackend

        return NumpyBackend()
    if name == "numba":
        try:
            from lumatile_kernels.host.numba_backend import NumbaBackend
        except ImportError as e:
            raise BackendUnavailableError(f"backend 'numba' needs the package numba: {e}") from e
        return NumbaBackend(threads)
    if name == "cuda":
        from lumatile_kernels.cuda.arrays import current_device
        from lumatile_kernels.cuda.backend import CudaBackend

        return CudaBackend(current_device(), partial(select_host_backend, threads))
    if name != "auto":
        raise ValueError(f"backend must be 'auto' or one of {get_args(BackendName)}, not {name!r}")
    chosen = _select_cuda(threads) or select_host_backend(threads)
    log.info("backend: %s", chosen.name)
    return chosen


def select_host_backend(threads: int | None = None) -> Backend:
    """Return the fastest backend that can run on this machine without a GPU; `threads` as in `select_backend`."""
    if find_spec("numba") is None:
        log.debug("backend numba: the package numba is not installed")
        return select_backend("numpy")
    from lumatile_kernels.host.sparing_backend import SparingBackend

    return SparingBackend(threads)


def _select_cuda(threads: int | None) -> Backend | None:
    """Return the backend "cuda"; None if it cannot run on this machine."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")  # far faster than to import CuPy
        return select_backend("cuda", threads=threads)
    except (OSError, BackendUnavailableError) as e:
        log.debug("backend cuda: %s", e)
        return None
