"""The functions that begin a recording."""

from __future__ import annotations

import os

from lumatile.errors import warn
from lumatile.log.binding import names_arguments
from lumatile.log.current import set_global_data_recording, set_thread_local_data_recording
from lumatile.log.default_id import default_id
from lumatile.log.recording import RecordingStream
from lumatile.settings import Compression, FloatColors, QueuePolicy, RecordingSettings, TileFormat
from lumatile.sink.sinks import OFF


@names_arguments
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
    spawn: bool = False,
    default_enabled: bool = True,
) -> RecordingStream:
    """Begin a recording and make it the global one, to which calls log that name no other.

    A recording that was begun before stays open.

    Args:
        application_id: The name of the application that logs, or of what it logs.
        recording_id: The recording, which several processes may log to; None: $LUMATILE_RECORDING_ID, so that the
            processes of one run share one, else a new one, which forked children and processes of multiprocessing get
            too if they begin one of the same application.
        sink: The path of a store or a URL, opened at once: s3://BUCKET/PREFIX (gs://, az://) for a store in a bucket,
            grpc://HOST:PORT or grpc+tls://HOST:PORT for a service, ray://NAME for one on the Ray of this process. None:
            $LUMATILE_SINK, else ./lumatile-store, opened at the first value.
        strict: Bad calls raise a LumatileError instead of giving a LumatileWarning.
        tile_format: How images are stored: "linear" (rgba16float), "srgb8" (rgba8unorm-srgb, half the bytes) or
            "rgba32float".
        keep_source: Keep the logged bytes where the tiles do not give them back exactly.
        compression: "zstd": compress everything; None: only ids and colors, with lz4.
        float_colors: What float point colors are: "linear" light or "srgb" gamma.
        queue_bytes: The most bytes that values may hold while they wait for the sink.
        queue_policy: What a call does when the queue is full: "block", for at most `max_block` seconds, and then drop
            its value; "drop_newest" or "drop_oldest". Dropped values are counted, warned about once, recorded as gaps,
            and make the next flush raise.
        max_block: The longest wait of one call, in seconds; None: as long as it takes.
        pixel_limit: The most pixels that an image file may have to be decoded.
        spawn: True gives a LumatileWarning: there is no viewer to start.
        default_enabled: False: nothing that is logged is kept, as with the sink off://.

    Returns:
        The recording.

    Raises:
        InvalidValueError: A setting is not allowed (a ValueError).
        InvalidTypeError: `sink` is neither a path nor a URL (a TypeError).
        SinkError: `sink` cannot be opened.
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
        spawn=spawn,
        default_enabled=default_enabled,
    )
    set_global_data_recording(recording)
    return recording


@names_arguments
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
    make_default: bool = False,
    make_thread_default: bool = False,
    spawn: bool = False,
    default_enabled: bool = True,
) -> RecordingStream:
    """Begin a recording, or join one that other processes log to, without making it the global one.

    Args:
        application_id: The name of the application that logs, or of what it logs.
        recording_id: The recording, which several processes may log to; None: $LUMATILE_RECORDING_ID, so that the
            processes of one run share one, else a new one, which forked children and processes of multiprocessing get
            too if they begin one of the same application.
        sink: The path of a store or a URL, opened at once: s3://BUCKET/PREFIX (gs://, az://) for a store in a bucket,
            grpc://HOST:PORT or grpc+tls://HOST:PORT for a service, ray://NAME for one on the Ray of this process. None:
            $LUMATILE_SINK, else ./lumatile-store, opened at the first value.
        strict: Bad calls raise a LumatileError instead of giving a LumatileWarning.
        tile_format: How images are stored: "linear" (rgba16float), "srgb8" (rgba8unorm-srgb, half the bytes) or
            "rgba32float".
        keep_source: Keep the logged bytes where the tiles do not give them back exactly.
        compression: "zstd": compress everything; None: only ids and colors, with lz4.
        float_colors: What float point colors are: "linear" light or "srgb" gamma.
        queue_bytes: The most bytes that values may hold while they wait for the sink.
        queue_policy: What a call does when the queue is full: "block", for at most `max_block` seconds, and then drop
            its value; "drop_newest" or "drop_oldest". Dropped values are counted, warned about once, recorded as gaps,
            and make the next flush raise.
        max_block: The longest wait of one call, in seconds; None: as long as it takes.
        pixel_limit: The most pixels that an image file may have to be decoded.
        make_default: Make it the global recording, as `init` does.
        make_thread_default: Make it this thread's recording.
        spawn: True gives a LumatileWarning: there is no viewer to start.
        default_enabled: False: nothing that is logged is kept, as with the sink off://.

    Returns:
        The recording.

    Raises:
        InvalidValueError: A setting is not allowed (a ValueError).
        InvalidTypeError: `sink` is neither a path nor a URL (a TypeError).
        SinkError: `sink` cannot be opened.
    """
    recording = RecordingStream(
        RecordingSettings(
            application_id=application_id,
            recording_id=recording_id or default_id(application_id),
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
    if spawn:
        warn("there is no viewer to spawn: look with `lumatile render`, or write a .rrd file with `lumatile export`")
    if not default_enabled:
        sink = OFF
    if sink is not None:
        recording.save(sink)
    if make_default:
        set_global_data_recording(recording)
    if make_thread_default:
        set_thread_local_data_recording(recording)
    return recording
