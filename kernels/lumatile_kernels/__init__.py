"""Arrays to tiles: the kernels of Lumatile, for numpy, numba and CUDA. Importing it needs only numpy."""

from lumatile_kernels.backend import Backend as Backend
from lumatile_kernels.backend import BackendUnavailableError as BackendUnavailableError
from lumatile_kernels.backend import PointOrder as PointOrder
from lumatile_kernels.backend import TileBlock as TileBlock
from lumatile_kernels.backend import TileFormat as TileFormat
from lumatile_kernels.selection import select_backend as select_backend
