"""Log images, depth, segmentation and points from training jobs; read them back as render-ready tiles.

In a training job, and afterwards:

    import lumatile as lt

    lt.init("my training", "run 7")                          # logs to ./lumatile-store
    lt.log_annotation_context("/", [(1, "road"), (2, "car", (255, 0, 0))])
    for step, batch in enumerate(batches):
        lt.set_time_sequence("step", step)
        lt.log_image("camera/rgb", batch.image)              # (H, W, 3) uint8, any array
        lt.log_depth_image("camera/depth", batch.depth)      # (H, W) uint16 millimetres, or float metres
        lt.log_segmentation_image("camera/classes", batch.ids)
        lt.log_points("lidar", batch.xyz, colors=batch.rgb)
    lt.flush()                                               # all of it is on disk

    recording = lt.open_store("lumatile-store").recording("run 7")
    frame = recording.latest_at("camera/rgb", step=42)
    frame.tile(level=0, x=3, y=1)                            # a view of the mapped file, ready for a GPU
    frame.source()                                           # exactly what was logged
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from lumatile.content.argument_types import Color, Colors, OptionalClassIds, OptionalKeyPointIds, Tensor
from lumatile.content.class_descriptions import AnnotationInfo, ClassDescription
from lumatile.content.image_file_content import ImageFormat
from lumatile.errors import (
    FlushError,
    InvalidTypeError,
    InvalidValueError,
    LumatileError,
    LumatileWarning,
    NotFoundError,
    SinkError,
    SourceNotKeptError,
    StoreError,
)
from lumatile.log.current import (
    connect,
    disconnect,
    flush,
    get_application_id,
    get_data_recording,
    get_global_data_recording,
    get_recording_id,
    get_thread_local_data_recording,
    is_enabled,
    save,
    set_global_data_recording,
    set_strict_mode,
    set_thread_local_data_recording,
)
from lumatile.log.log_annotations import log_annotation_context, log_cleared, log_extension_components
from lumatile.log.log_images import log_depth_image, log_image, log_image_file, log_segmentation_image
from lumatile.log.log_points import log_point, log_points
from lumatile.log.recording import RecordingStream
from lumatile.log.set_times import reset_time, set_time_nanos, set_time_seconds, set_time_sequence
from lumatile.log.start import init, new_recording
from lumatile.reading import open_store

if _TYPE_CHECKING:
    from lumatile.read.frame import Frame
    from lumatile.read.point_cloud import PointCloud
    from lumatile.read.recording_reader import RecordingReader
    from lumatile.read.store import Store

    __version__: str

__all__ = [
    "AnnotationInfo",
    "ClassDescription",
    "Color",
    "Colors",
    "FlushError",
    "Frame",
    "ImageFormat",
    "InvalidTypeError",
    "InvalidValueError",
    "LumatileError",
    "LumatileWarning",
    "NotFoundError",
    "OptionalClassIds",
    "OptionalKeyPointIds",
    "PointCloud",
    "RecordingReader",
    "RecordingStream",
    "SinkError",
    "SourceNotKeptError",
    "Store",
    "StoreError",
    "Tensor",
    "__version__",
    "connect",
    "disconnect",
    "flush",
    "get_application_id",
    "get_data_recording",
    "get_global_data_recording",
    "get_recording_id",
    "get_thread_local_data_recording",
    "init",
    "is_enabled",
    "log_annotation_context",
    "log_cleared",
    "log_depth_image",
    "log_extension_components",
    "log_image",
    "log_image_file",
    "log_point",
    "log_points",
    "log_segmentation_image",
    "new_recording",
    "open_store",
    "reset_time",
    "save",
    "set_global_data_recording",
    "set_strict_mode",
    "set_thread_local_data_recording",
    "set_time_nanos",
    "set_time_seconds",
    "set_time_sequence",
]

if not _TYPE_CHECKING:  # a type checker takes a module's __getattr__ to give any name there is

    def __getattr__(name: str) -> object:
        """Load what reads a store, and Arrow with it, when it is asked for first; and find out the version."""
        from lumatile import reading

        globals()[name] = value = reading.loaded(name)
        return value


def __dir__() -> list[str]:
    return __all__
