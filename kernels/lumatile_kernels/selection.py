"""How a backend is chosen: once, where a pipeline is built."""

from __future__ import annotations

import logging
from typing import get_args

from lumatile_kernels.backend import Backend, BackendName, BackendUnavailableError

log = logging.getLogger(__name__)


def select_backend(name: str = "auto", *, threads: int | None = None) -> Backend:
    """The backend called `name`: "auto", "numpy", "numba" or "cuda".

    "auto" takes the fastest that can run here and says at INFO which. `threads`: how many compute together on a host;
    None: one for each core this process may use.

    Raises ValueError for another name and BackendUnavailableError for one that cannot run here.
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

        return CudaBackend(current_device())
    if name != "auto":
        raise ValueError(f"backend must be 'auto' or one of {get_args(BackendName)}, not {name!r}")
    for candidate in ("cuda", "numba"):
        try:
            chosen = select_backend(candidate, threads=threads)
        except BackendUnavailableError as e:
            log.debug("backend %s: %s", candidate, e)
            continue
        log.info("backend: %s", chosen.name)
        return chosen
    log.info("backend: numpy")
    return select_backend("numpy")
