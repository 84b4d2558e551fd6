"""A store as the last or the first stage of a Ray Data pipeline.

    import ray
    from lumatile_service.ray_data import FrameSource, TileSink, TileSource

    def log(recording, row):                             # turns a row into ordinary logging calls
        recording.set_time_sequence("frame", row["id"])
        recording.log_image("camera", row["image"])

    sink = TileSink("runs", log=log, application_id="my pipeline", recording_id="run 1")
    dataset.write_datasink(sink)                         # returns when everything is durable, each value once
    print(sink.summary)

    ray.data.read_datasource(FrameSource("runs", "run 1", kinds="image", content="source"))
    ray.data.read_datasource(TileSource("runs", "run 1", planes="pixels", levels=2))

Needs `pip install "lumatile[ray]"`.
"""

from __future__ import annotations

from lumatile_service.ray_data.frame_source import FrameSource
from lumatile_service.ray_data.tile_sink import TileSink
from lumatile_service.ray_data.tile_source import TileSource

__all__ = ["FrameSource", "TileSink", "TileSource"]
