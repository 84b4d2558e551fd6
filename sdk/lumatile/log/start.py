"""How a recording starts."""

from __future__ import annotations

import os
import uuid

from lumatile.log.current import set_global_data_recording
from lumatile.log.recording import RecordingStream
from lumatile.settings import Compression, FloatColors, QueuePolicy, RecordingSettings, TileFormat


def init(
    application_id: str,
    recording_id: str | None = None,
    *,
    sink: str | os.PathLike[str] | None = None,
    strict: bool = False,
    tile_format: TileFormat = "linear",
    keep_source: bool = True,
    compression: Compression = None,
    float_colors: FloatColors = "linear",
    queue_bytes: int = 2**28,
    queue_policy: QueuePolicy = "block",
    max_block: float | None = 5.0,
    pixel_limit: int = 89_478_485,
) -> RecordingStream:
    """Begin a recording and make it the global one; returns it. A recording begun before stays open.

    Arguments and errors as in `new_recording`.
    """
    recording = new_recording(
        application_id,
        recording_id,
        sink=sink,
        strict=strict,
        tile_format=tile_format,
        keep_source=keep_source,
        compression=compression,
        float_colors=float_colors,
        queue_bytes=queue_bytes,
        queue_policy=queue_policy,
        max_block=max_block,
        pixel_limit=pixel_limit,
    )
    set_global_data_recording(recording)
    return recording


def new_recording(
    application_id: str,
    recording_id: str | None = None,
    *,
    sink: str | os.PathLike[str] | None = None,
    strict: bool = False,
    tile_format: TileFormat = "linear",
    keep_source: bool = True,
    compression: Compression = None,
    float_colors: FloatColors = "linear",
    queue_bytes: int = 2**28,
    queue_policy: QueuePolicy = "block",
    max_block: float | None = 5.0,
    pixel_limit: int = 89_478_485,
) -> RecordingStream:
    """Begin a recording, or join one; returns it.

    `application_id`: what it is of. `recording_id`: None: $LUMATILE_RECORDING_ID, so that the processes of one run
    share one, else a new one.
    `sink`: path of a store, or a URL, opened at once; None: $LUMATILE_SINK, else ./lumatile-store, opened at the first
    value.
    `strict`: bad calls raise instead of warning.
    `tile_format`: of images: "linear" (rgba16float), "srgb8" (rgba8unorm-srgb, half the bytes) or "rgba32float".
    `keep_source`: keep the logged bytes where the tiles don't give them back exactly.
    `compression`: "zstd" for everything; None: only ids and colors, with lz4.
    `float_colors`: what float point colors are: "linear" light or "srgb" gamma.
    `queue_bytes`: values that wait for the sink hold at most this many bytes. `queue_policy`: what a call does when
    they do: "block" for at most `max_block` seconds (None: as long as it takes), then drop its value; "drop_newest"
    or "drop_oldest". Drops are counted, warned about once, recorded as gaps, and make the next flush raise.
    `pixel_limit`: largest image file that is decoded, in pixels.
    Raises InvalidValueError for a setting that is not allowed, SinkError where `sink` cannot be opened.
    """
    recording = RecordingStream(
        RecordingSettings(
            application_id=application_id,
            recording_id=recording_id or os.environ.get("LUMATILE_RECORDING_ID") or str(uuid.uuid4()),
            strict=strict,
            tile_format=tile_format,
            keep_source=keep_source,
            compression=compression,
            float_colors=float_colors,
            queue_bytes=queue_bytes,
            queue_policy=queue_policy,
            max_block=max_block,
            pixel_limit=pixel_limit,
        )
    )
    if sink is not None:
        recording.save(sink)
    return recording
