"""Tables that kernels read, on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.cuda.streams import DeviceStreams
from lumatile_kernels.device import Memory

PALETTES = 16
"""The number of palettes that are kept on the device."""


class DeviceTables:
    """The copies of tables on one device. Its methods raise DeviceError."""

    def __init__(self, streams: DeviceStreams) -> None:
        """Upload tables on `streams`."""
        self._streams = streams
        self._constants: dict[int, tuple[NDArray[Any], Memory]] = {}
        """Each table of the host and its copy, by the id of the table of the host."""
        self._palettes: dict[bytes, Memory] = {}
        """The copies of palettes, by the palettes' bytes."""

    def constant(self, table: NDArray[Any]) -> Memory:
        """Return the copy of one of the arrays of `lumatile_kernels.tables`, which is kept."""
        if id(table) not in self._constants:
            self._constants[id(table)] = table, self._streams.on_device(table)
        return self._constants[id(table)][1]

    def palette(self, palette: NDArray[np.uint8]) -> Memory:
        """Return the copy of a palette, which is kept while it is one of the last PALETTES that were new."""
        content = palette.tobytes()
        if content not in self._palettes:
            self._palettes[content] = self._streams.on_device(palette)
            if len(self._palettes) > PALETTES:
                del self._palettes[next(iter(self._palettes))]
        return self._palettes[content]
