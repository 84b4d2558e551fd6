"""The choice of a backend: made once, where a pipeline is built."""

from __future__ import annotations

import logging
from functools import partial
from typing import get_args

from lumatile_kernels.backend import Backend, BackendName, BackendUnavailableError

log = logging.getLogger(__name__)


def select_backend(name: str = "auto", *, threads: int | None = None) -> Backend:
    """Return the backend called `name`.

    Args:
        name: "numpy", "numba", "cuda", or "auto": the fastest that can run on this machine, which is logged at INFO.
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
    try:
        chosen = select_backend("cuda", threads=threads)
    except BackendUnavailableError as e:
        log.debug("backend cuda: %s", e)
        chosen = select_host_backend(threads)
    log.info("backend: %s", chosen.name)
    return chosen


def select_host_backend(threads: int | None = None) -> Backend:
    """Return the fastest backend that can run on this machine without a GPU; `threads` as in `select_backend`."""
    try:
        return select_backend("numba", threads=threads)
    except BackendUnavailableError as e:
        log.debug("backend numba: %s", e)
        return select_backend("numpy")
