"""The streams of a backend: uploads, kernels and downloads each have one, so that they overlap."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from lumatile_kernels.cuda.passes import FrameLayout
from lumatile_kernels.device import Device, DeviceError, Memory, settle

LAYOUTS = 64
"""The number of row tables that are kept on the device."""


class DeviceStreams:
    """The three streams of a backend, and the row tables of its frames on the device."""

    def __init__(self, device: Device) -> None:
        """Make three streams on `device`."""
        self.device = device
        self.upload = device.stream()
        self.compute = device.stream()
        self.download = device.stream()
        self._layouts: dict[int, tuple[FrameLayout, Memory]] = {}
        """The layouts and their row tables on the device, by the id of the layout."""

    def on_device(self, table: NDArray[Any]) -> Memory:
        """Copy a table to the device and wait for the copy. Raises DeviceError."""
        memory = self.device.allocate(table.nbytes)
        try:
            self.device.upload(memory.pointer, table, self.upload)
            self.device.synchronize(self.device.record(self.upload))
        except DeviceError:
            settle(self.device, self.upload)
            raise
        return memory

    def rows(self, layout: FrameLayout) -> Memory:
        """Return the row table of a layout on the device. Raises DeviceError."""
        known = self._layouts
        if id(layout) not in known:
            known[id(layout)] = layout, self.on_device(layout.rows)
            while len(known) > LAYOUTS:
                del known[next(iter(known))]
        return known[id(layout)][1]
