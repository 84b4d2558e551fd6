"""Video files: each becomes an entity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

import numpy as np

from lumatile.errors import ImageFileError
from lumatile.log.recording import RecordingStream
from lumatile_kernels.decode.image_header import PIXEL_LIMIT
from lumatile_service.batch.formats.image_folder import SUFFIXES as IMAGES
from lumatile_service.batch.formats.video.frames import VideoFrame, video_frames
from lumatile_service.batch.log_call import LogCall, entity_or, refused
from lumatile_service.batch.source_files import SourceFiles

SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".m2ts",
    ".mts",
    ".3gp",
    ".wmv",
    ".flv",
    ".ogv",
    ".mxf",
    ".y4m",
)
"""Suffixes of video files, without .ts, which is also TypeScript."""

FRAME, TIME = "frame", "time"


def matches(files: SourceFiles) -> bool:
    """Return whether there are video files, and not more image files."""
    videos = len(files.under("", *SUFFIXES))
    return videos > 0 and videos >= len(files.under("", *IMAGES))


def read(files: SourceFiles) -> Iterator[LogCall]:
    """List each frame of each video file at the entity of its path without the suffix, "left/day1" for left/day1.mp4.

    Files that differ only in the suffix keep it. The sequence "frame" counts frames from 0 in the order in which they
    are shown; "time" is the time in the file since the first frame. A time timeline counts from 1970, so 1.5 s into the
    video is 1970-01-01T00:00:01.5, and `latest_at(path, time=1.5)` finds it.
    A frame is logged as the pixels that FFmpeg decodes: RGB, gray or with alpha, uint8 or uint16, see `video_frames`.
    Audio, subtitles and further video streams are not logged.
    Of a file that is truncated or corrupt, the frames before the damage are logged, and one error row; nothing after
    the damage is read. A frame over the pixel limit counts as a damage.
    """
    paths = files.under("", *SUFFIXES)
    stems = Counter(_stem(path) for path in paths)
    for path in paths:
        stem = _stem(path)
        entity = entity_or(stem if stems[stem] == 1 else path, files.name)
        number = -1
        try:
            with files.open(path) as opened:
                for number, frame in enumerate(video_frames(opened, PIXEL_LIMIT)):
                    yield _call(files.uri(path), entity, number, frame)
        except Exception as e:  # noqa: BLE001 - one file must not end the job
            at = f"after frame {number}" if number >= 0 else "at its beginning"
            yield LogCall(
                entity_path=entity,
                kind="image",
                uri=files.uri(path),
                read=partial(refused, ImageFileError(f"{e} ({at})")),
                log=log_pixels,
            )


def log_pixels(
    recording: RecordingStream,
    entity_path: str,
    content: bytes,
    *,
    shape: tuple[int, ...] = (),
    dtype: str = "|u1",
) -> None:
    """Log an image of `shape` and `dtype` from its pixels in C order."""
    height, width = shape[:2]
    if height * width > (limit := recording.settings.pixel_limit):
        raise ImageFileError(f"{width}x{height} pixels are more than the limit of {limit}")
    recording.log_image(entity_path, np.frombuffer(content, dtype).reshape(shape))


def _call(uri: str, entity: str, number: int, frame: VideoFrame) -> LogCall:
    pixels = frame.pixels
    shape, dtype = pixels.shape, pixels.dtype.str
    return LogCall(
        entity_path=entity,
        kind="image",
        uri=uri,
        member=f"frame={number}",
        read=partial(bytes, pixels.tobytes()),
        log=partial(log_pixels, shape=shape, dtype=dtype),
        beside=f"{shape} {dtype}".encode(),
        nbytes=pixels.nbytes,
        file_nbytes=frame.nbytes,
        pixels=shape[0] * shape[1],
        sequences={FRAME: number},
        times={} if frame.nanos is None else {TIME: frame.nanos},
    )


def _stem(path: str) -> str:
    return path.rpartition(".")[0]
