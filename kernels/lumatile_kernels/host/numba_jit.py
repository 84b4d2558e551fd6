"""How kernels are compiled: on first use, and kept on disk for the next process where there is a place for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy.ma  # noqa: F401 - numba imports it on a first call: a child forked meanwhile would wait for that forever
from numba.core.compiler_lock import global_compiler_lock

from lumatile_kernels.fork import hold_across_fork

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile `function` with numba: without the GIL, in IEEE arithmetic as written (no fastmath, no contraction).

    A kernel makes no arrays: without numba's reference counts (`_nrt`) a slice costs nothing; with them each one is
    an atomic operation on a counter that all threads share. Whatever a kernel calls stands in its own file, because
    numba's cache on disk looks at no other.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": False, "_nrt": False}
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's directory nor the user's cache can be written
        compiled = numba.njit(**options)(function)
    return cast("F", compiled)


hold_across_fork(global_compiler_lock)
