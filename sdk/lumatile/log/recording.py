"""The class that people hold: a stream with a method for each log and time function.

Longer than other files, since there is a method for each of them.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, SupportsFloat, SupportsIndex

from lumatile.content.class_descriptions import ClassDescriptionLike, annotation_context
from lumatile.content.extensions import extension_content
from lumatile.content.image_content import depth_content, image_content, segmentation_content
from lumatile.content.image_file_content import ImageFormat, image_file_content, jpeg_content
from lumatile.content.point_content import points_content
from lumatile.errors import SinkError, warn
from lumatile.log import blocks
from lumatile.log.arguments import lenient
from lumatile.log.stream import Stream
from lumatile.log.timelines import nanoseconds, nanoseconds_of_seconds, sequence_number
from lumatile.sink.sinks import LOCAL_SERVICE, Durable, SinkAt, sink_at


class RecordingStream(Stream):
    """One process's part of a recording, made by `init` and `new_recording`.

    All log and time functions are its methods too. As a context manager it is the current recording inside the
    block, also of asyncio tasks that begin there, and flushes at the end of it. It may be used by any number of
    threads; timelines are each thread's own.
    A forked child continues with a stream of its own, into the same sink; so does a process that it is pickled to.
    """

    # what is logged

    @lenient
    def log_image(
        self,
        entity_path: str,
        image: Any,
        *,
        draw_order: float | None = None,
        ext: Mapping[str, Any] | None = None,
        timeless: bool = False,
        jpeg_quality: int | None = None,
    ) -> None:
        """Log a gray, RGB or RGBA image to this recording; arguments and errors are those of `lumatile.log_image`."""
        self.log_value(
            "image",
            entity_path,
            lambda _: image_content(image) if jpeg_quality is None else jpeg_content(image, jpeg_quality),
            draw_order=draw_order,
            ext=ext,
            timeless=timeless,
        )

    @lenient
    def log_image_file(
        self,
        entity_path: str,
        *,
        img_bytes: Any = None,
        img_path: str | os.PathLike[str] | None = None,
        img_format: ImageFormat | str | None = None,
        draw_order: float | None = None,
        timeless: bool = False,
    ) -> None:
        """Log a JPEG or PNG file to this recording; arguments and errors are those of `lumatile.log_image_file`."""
        self.log_value(
            "image",
            entity_path,
            lambda settings: image_file_content(img_bytes, img_path, img_format, settings),
            draw_order=draw_order,
            timeless=timeless,
        )

    @lenient
    def log_depth_image(
        self,
        entity_path: str,
        image: Any,
        *,
        draw_order: float | None = None,
        meter: float | None = None,
        ext: Mapping[str, Any] | None = None,
        timeless: bool = False,
    ) -> None:
        """Log a depth image to this recording; arguments and errors are those of `lumatile.log_depth_image`."""
        self.log_value(
            "depth",
            entity_path,
            lambda _: depth_content(image, meter),
            draw_order=draw_order,
            ext=ext,
            timeless=timeless,
        )

    @lenient
    def log_segmentation_image(
        self,
        entity_path: str,
        image: Any,
        *,
        draw_order: float | None = None,
        ext: Mapping[str, Any] | None = None,
        timeless: bool = False,
    ) -> None:
        """Log class ids to this recording; arguments and errors are those of `lumatile.log_segmentation_image`."""
        self.log_value(
            "segmentation",
            entity_path,
            lambda settings: segmentation_content(image, strict=settings.strict),
            draw_order=draw_order,
            ext=ext,
            timeless=timeless,
        )

    @lenient
    def log_point(
        self,
        entity_path: str,
        position: Any = None,
        *,
        radius: float | None = None,
        color: Any = None,
        label: str | None = None,
        class_id: int | None = None,
        keypoint_id: int | None = None,
        draw_order: float | None = None,
        ext: Mapping[str, Any] | None = None,
        timeless: bool = False,
    ) -> None:
        """Log a point to this recording; arguments and errors are those of `lumatile.log_point`."""
        given = {
            "positions": position,
            "colors": color,
            "radii": radius,
            "labels": label,
            "class_ids": class_id,
            "keypoint_ids": keypoint_id,
        }
        self.log_value(
            "points",
            entity_path,
            lambda settings: points_content(given, settings.float_colors, single=True),
            draw_order=draw_order,
            ext=ext,
            timeless=timeless,
        )

    @lenient
    def log_points(
        self,
        entity_path: str,
        positions: Any = None,
        *,
        identifiers: Any = None,
        colors: Any = None,
        radii: Any = None,
        labels: str | Sequence[str | None] | None = None,
        class_ids: Any = None,
        keypoint_ids: Any = None,
        draw_order: float | None = None,
        ext: Mapping[str, Any] | None = None,
        timeless: bool = False,
    ) -> None:
        """Log N points to this recording; arguments and errors are those of `lumatile.log_points`."""
        given = {
            "positions": positions,
            "identifiers": identifiers,
            "colors": colors,
            "radii": radii,
            "labels": labels,
            "class_ids": class_ids,
            "keypoint_ids": keypoint_ids,
        }
        self.log_value(
            "points",
            entity_path,
            lambda settings: points_content(given, settings.float_colors, single=False),
            draw_order=draw_order,
            ext=ext,
            timeless=timeless,
        )

    @lenient
    def log_annotation_context(
        self,
        entity_path: str,
        class_descriptions: ClassDescriptionLike | Iterable[ClassDescriptionLike],
        *,
        timeless: bool = True,
    ) -> None:
        """Log labels and colors of ids to this recording; arguments are those of `lumatile.log_annotation_context`."""
        self.log_value(
            "annotation_context",
            entity_path,
            lambda settings: {"body": annotation_context(class_descriptions, settings.float_colors).to_json()},
            timeless=timeless,
        )

    @lenient
    def log_extension_components(
        self, entity_path: str, ext: Mapping[str, Any], *, identifiers: Any = None, timeless: bool = False
    ) -> None:
        """Log components of your own to this recording; arguments are those of `lumatile.log_extension_components`."""
        self.log_value("ext", entity_path, lambda _: extension_content(ext, identifiers), ext=ext, timeless=timeless)

    @lenient
    def log_cleared(self, entity_path: str, *, recursive: bool = False) -> None:
        """Log to this recording that an entity shows nothing from now on; see `lumatile.log_cleared`."""
        self.log_value("clear", entity_path, lambda _: {"recursive": bool(recursive)})

    # when it was

    @lenient
    def set_time_sequence(self, timeline: str, sequence: SupportsIndex | None) -> None:
        """Set this thread's position on a sequence timeline of this recording; see `lumatile.set_time_sequence`."""
        self.attempt(lambda: self.timelines.set("sequence", timeline, sequence_number(sequence)))

    @lenient
    def set_time_seconds(self, timeline: str, seconds: SupportsFloat | dt.timedelta | dt.datetime | None) -> None:
        """Set this thread's position on a time timeline of this recording; see `lumatile.set_time_seconds`."""
        self.attempt(lambda: self.timelines.set("time", timeline, nanoseconds_of_seconds(seconds)))

    @lenient
    def set_time_nanos(self, timeline: str, nanos: SupportsIndex | dt.timedelta | dt.datetime | None) -> None:
        """Set this thread's position on a time timeline of this recording; see `lumatile.set_time_nanos`."""
        self.attempt(lambda: self.timelines.set("time", timeline, nanoseconds(nanos)))

    @lenient
    def reset_time(self) -> None:
        """Remove the user's timelines from the values that this thread logs to this recording from now on."""
        self.timelines.reset()

    # where it goes

    def save(self, store: str | os.PathLike[str], *, backend: str = "auto") -> None:
        """Log to a store from now on; the sink in use before is flushed and closed.

        Args:
            store: The path of the store's directory, or a URL, as for `new_recording`.
            backend: What makes the tiles: "auto", "numpy", "numba" or "cuda".

        Raises:
            SinkError: The store cannot be opened.
            InvalidValueError: There is no such URL scheme or backend, or this process writes no store at the URL and
                `backend` is given.
            FlushError: Not everything that was logged before is durable; the store is open then.
        """
        self._outlet.change(sink_at(store, backend=backend), self._settings)

    def connect(self, url: str = LOCAL_SERVICE) -> None:
        """Log to a URL from now on; the sink in use before is flushed and closed.

        Args:
            url: A service, grpc://HOST:PORT, or whatever else `new_recording` takes as `sink`; by default a
                `lumatile serve` on this machine.

        Raises:
            SinkError: The sink cannot be opened.
            InvalidValueError: There is no such URL scheme.
            FlushError: Not everything that was logged before is durable; the new sink is open then.
        """
        self._outlet.change(sink_at(url), self._settings)

    def flush(self, timeout: float | None = None) -> Durable:
        """Wait until all values logged before are durable.

        Args:
            timeout: The longest wait, in seconds; None: as long as it takes.

        Returns:
            Where they are: "store" or "spool".

        Raises:
            FlushError: Some are not, or were dropped or lost since the last flush; `undelivered` says how many. It is
                raised in lenient mode too.
        """
        return self._outlet.flush(timeout)

    def disconnect(self, *, timeout: float | None = None) -> None:
        """Flush and close the sink; values logged afterwards are lost, with a warning, until `save` or `connect`.

        Args:
            timeout: The longest wait, in seconds; None: as long as it takes.

        Raises:
            FlushError: As in `flush`; the sink is closed then too.
        """
        self._outlet.close(timeout)

    @property
    def enabled(self) -> bool:
        """False where nothing of what is logged is kept: the sink is off://."""
        factory = self._outlet.factory
        return not (isinstance(factory, SinkAt) and factory.is_off)

    # in a block, in another process, and in a terminal

    def __enter__(self) -> Self:
        blocks.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        blocks.leave(self)
        try:
            self.flush()
        except SinkError as e:
            if error is None:
                raise
            warn(str(e))  # the error that ends the block goes on

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordingStream, (self._settings, self._outlet.factory)

    def __repr__(self) -> str:
        refusal = f" refuses_values={self._outlet.refusal!r}" if self._outlet.refusal else ""
        return (
            f"<RecordingStream {self.recording_id!r} application={self.application_id!r} sink={self._outlet.factory}"
            f"{refusal} strict={self._settings.strict} errors={self.errors} lost={self.lost}>"
        )
