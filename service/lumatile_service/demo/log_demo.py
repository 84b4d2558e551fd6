"""Logging the demo's real data, as a user's training script would."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import lumatile as lt
from lumatile_kernels.decode.png import encode_png
from lumatile_service.demo import real_data

REACH = (2.3, 2.5, 3.0, 3.8, 4.4, 6.0)
"""Depth and points of frame k are the real ones up to this distance, in metres."""

STEPS = 8 + 3 * len(REACH)
"""The number of times that `log_demo` calls `step`."""


def log_demo(store: str, *, recording_id: str, step: Callable[[str], None]) -> None:
    """Log images, image files, depth, points and segmentations to a new recording, and wait until all are durable.

    `step` is called with an entity path before each value. Raises FlushError where the store cannot be written.
    """
    recording = lt.new_recording("lumatile_demo", recording_id, strict=True)
    recording.save(store, backend="numpy")  # the first frames by numba take longer than all of these: it compiles
    try:
        recording.set_time_sequence("frame", 0)
        scene = real_data.stereo()
        origin = {"dataset": "Middlebury 2014, Motorcycle"}
        step("stereo/left")
        recording.log_image("stereo/left", scene.left, ext=origin)
        step("stereo/right")
        recording.log_image("stereo/right", scene.right, ext=origin)
        _log_coins(recording, step)
        step("photos/retina")
        recording.log_image_file("photos/retina", img_path=real_data.photo_file("retina.jpg"))
        step("photos/moon")
        recording.log_image_file("photos/moon", img_bytes=encode_png(real_data.moon16()))

        for frame, reach in enumerate(REACH):
            recording.set_time_sequence("frame", frame)
            near = np.where(scene.depth <= reach, scene.depth, np.float32(0))
            step("stereo/depth")
            recording.log_depth_image("stereo/depth", near, meter=1.0)
            step("stereo/points")
            positions, colors = real_data.back_project(near, scene.left)
            recording.log_points("stereo/points", positions, colors=colors)
            step("photos/gallery")
            _log_gallery(recording, frame)
        step("flush")
        recording.flush()
    finally:
        recording.disconnect()


def _log_coins(recording: lt.RecordingStream, step: Callable[[str], None]) -> None:
    coins = real_data.coins()
    step("coins/photo")
    recording.log_image("coins/photo", coins.photo)
    step("coins/instances")
    names = [lt.AnnotationInfo(number, f"coin {number}") for number in range(1, int(coins.instances.max()) + 1)]
    recording.log_annotation_context("coins/instances", names)
    recording.log_segmentation_image("coins/instances", coins.instances)
    step("coins/sizes")
    colors = ((0, 0, 0, 0), (66, 135, 245), (245, 176, 66), (219, 68, 85))
    sizes = [(number, name, colors[number]) for number, name in enumerate(real_data.COIN_SIZES)]
    recording.log_annotation_context("coins/sizes", sizes)
    recording.log_segmentation_image("coins/sizes", coins.sizes)


def _log_gallery(recording: lt.RecordingStream, frame: int) -> None:
    """Log one photograph for each frame: the first three as arrays, the others as JPEG files."""
    names = ("astronaut", "chelsea", "coffee", "china.jpg", "flower.jpg", "hubble_deep_field.jpg")
    name = names[frame]
    if name.endswith(".jpg"):
        recording.log_image_file("photos/gallery", img_path=real_data.photo_file(name))
    else:
        recording.log_image("photos/gallery", real_data.photo(name))
