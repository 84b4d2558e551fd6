"""Types of arguments of log functions, for annotations: a log call takes whatever is an array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Tensor: TypeAlias = Any
"""An image: an array of numpy, torch, JAX, CuPy, PIL or another library."""

Color: TypeAlias = Sequence[int] | Sequence[float] | NDArray[Any]
"""RGB or RGBA: integers 0-255 or floats 0-1."""

Colors: TypeAlias = Color | Sequence[Color]
"""One color, or one a point."""

OptionalClassIds: TypeAlias = int | Sequence[int] | NDArray[np.integer[Any]] | None
"""One class id, one a point, or none."""

OptionalKeyPointIds: TypeAlias = int | Sequence[int] | NDArray[np.integer[Any]] | None
"""One keypoint id, one a point, or none."""
