"""The compilation of kernels: at first use; the result is kept on disk for the next process if that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy.ma  # noqa: F401 - else numba imports it on a first call, and a child forked in the meantime would hang
from numba.core.compiler_lock import global_compiler_lock

from lumatile_kernels.fork import hold_across_fork

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile `function` with numba: without the GIL, in IEEE arithmetic as written (no fastmath, no contraction).

    A kernel creates no arrays: without numba's reference counts (`_nrt`) a slice costs nothing; with them each slice is
    an atomic operation on a counter that all threads share. All functions that a kernel calls must be in its file:
    numba's cache on disk does not notice changes of other files.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": False, "_nrt": False}
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the directory of the package nor the cache of the user is writable
        compiled = numba.njit(**options)(function)
    return cast("F", compiled)


hold_across_fork(global_compiler_lock)
