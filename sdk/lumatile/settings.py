"""The identity and the settings of a recording, which travel with its values to any sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from lumatile.errors import InvalidValueError

TileFormat = Literal["linear", "srgb8", "rgba32float"]
FloatColors = Literal["linear", "srgb"]
QueuePolicy = Literal["block", "drop_newest", "drop_oldest"]
Compression = Literal["zstd"] | None


class RecordingOptions(TypedDict, total=False):
    """The settings that a job which logs into a recording leaves to its caller, as in `RecordingSettings`."""

    strict: bool
    tile_format: TileFormat
    keep_source: bool
    compression: Compression
    float_colors: FloatColors
    queue_bytes: int
    pixel_limit: int


@dataclass(frozen=True, kw_only=True)
class RecordingSettings:
    """The identity and the settings of a recording. Raises InvalidValueError for one that is not allowed."""

    application_id: str
    """The name of the application that logs."""
    recording_id: str
    """The recording; several processes may log to one."""
    strict: bool = False
    """A bad call raises instead of warning."""
    tile_format: TileFormat = "linear"
    """How images are stored: rgba16float, rgba8unorm-srgb or rgba32float."""
    keep_source: bool = True
    """Keep the logged bytes where the tiles do not give them back exactly."""
    compression: Compression = None
    """"zstd": compress every plane; None: lz4 for ids and colors, nothing else."""
    float_colors: FloatColors = "linear"
    """The meaning of float point colors: linear light or sRGB gamma."""
    queue_bytes: int = 2**28
    """The most bytes that values may hold while they wait for the sink."""
    queue_policy: QueuePolicy = "block"
    """The reaction of a call to a full queue: it waits, drops its value, or drops the oldest."""
    max_block: float | None = 5.0
    """The longest wait of one call for room in the queue, in seconds; None: unlimited."""
    pixel_limit: int = 89_478_485
    """The most pixels that an image file may have to be decoded, checked on its header."""

    def __post_init__(self) -> None:
        """Check every rule, once for all sinks."""
        for name, allowed in (
            ("tile_format", get_args(TileFormat)),
            ("float_colors", get_args(FloatColors)),
            ("queue_policy", get_args(QueuePolicy)),
            ("compression", ("zstd", None)),
        ):
            if getattr(self, name) not in allowed:
                raise InvalidValueError(f"{name} must be one of {allowed}, not {getattr(self, name)!r}")
        for name in ("application_id", "recording_id"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value or "\0" in value or not _is_unicode(value):
                raise InvalidValueError(
                    f"{name} must be a non-empty string of valid Unicode without NUL, not {value!r}"
                )
        for name in ("queue_bytes", "pixel_limit"):
            value = getattr(self, name)
            if not isinstance(value, int) or value <= 0:
                raise InvalidValueError(f"{name} must be a positive integer, not {value!r}")
        if self.max_block is not None and not (isinstance(self.max_block, int | float) and self.max_block >= 0):
            raise InvalidValueError(f"max_block must be None or seconds >= 0, not {self.max_block!r}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
