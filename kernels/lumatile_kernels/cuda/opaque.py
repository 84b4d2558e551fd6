"""The check whether an RGBA image on a GPU is opaque."""

from __future__ import annotations

import numpy as np

from lumatile_kernels.cuda.arrays import DeviceArray
from lumatile_kernels.cuda.slots import Slots
from lumatile_kernels.cuda.sources import TRANSLUCENT
from lumatile_kernels.device import DeviceError, Stream, settle

ALPHA = np.dtype([("pixels", np.uint64), ("count", np.int64), ("translucent", np.uint64)], align=True)
"""The struct Alpha of opaque.cu."""

PIXELS_PER_BLOCK = 1 << 14

FLAG_BYTES = 256


def is_opaque(image: DeviceArray, slots: Slots, stream: Stream) -> bool:
    """Return whether every pixel of an image, (h, w, 4) uint8, has the alpha 255. Raises DeviceError."""
    device, pixels = image.device, image.shape[0] * image.shape[1]
    flag = slots.take(FLAG_BYTES)
    arguments = np.zeros(1, ALPHA)
    arguments["pixels"], arguments["count"], arguments["translucent"] = image.pointer, pixels, flag.pointer
    answer = np.empty(4, np.uint8)
    try:
        device.wait(stream, image.ready)
        device.zero(flag.pointer, 4, stream)
        device.launch(TRANSLUCENT, arguments, -(-pixels // PIXELS_PER_BLOCK), stream)
        device.download(answer, flag.pointer, stream)
        device.synchronize(device.record(stream))
    except DeviceError:
        settle(device, stream)  # pending operations use the image
        raise
    slots.give_back(flag)
    return not answer.any()
