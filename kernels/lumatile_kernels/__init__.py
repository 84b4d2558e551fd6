"""Arrays to tiles: the kernels of Lumatile, for numpy, numba and CUDA. Importing it needs only numpy."""

from lumatile_kernels.backend import Backend, BackendUnavailableError, PointOrder, TileBlock, TileFormat
from lumatile_kernels.selection import select_backend

__all__ = ["Backend", "BackendUnavailableError", "PointOrder", "TileBlock", "TileFormat", "select_backend"]
