"""The Arrow schemas: frames and tiles files of the store, and the values sent to a service."""

from __future__ import annotations

import pyarrow as pa

FORMAT_VERSION = 2
"""Version 2 has record batches that small frames share, and clouds without a source plane."""

FRAMES = pa.schema(
    [
        pa.field("entity_path", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("log_time", pa.timestamp("ns")),
        pa.field("log_tick", pa.int64()),
        pa.field("sequences", pa.map_(pa.string(), pa.int64())),
        pa.field("times", pa.map_(pa.string(), pa.timestamp("ns"))),
        pa.field("timeless", pa.bool_()),
        pa.field("shape", pa.list_(pa.int64())),
        pa.field("source_shape", pa.list_(pa.int64())),
        pa.field("source_dtype", pa.string()),
        pa.field("source", pa.string()),
        pa.field("tile_format", pa.string()),
        pa.field("levels", pa.int32()),
        pa.field("meter", pa.float64()),
        pa.field("draw_order", pa.float64()),
        pa.field("point_origin", pa.list_(pa.float64())),
        pa.field("ext", pa.string()),
        pa.field("body", pa.string()),
        pa.field("recursive", pa.bool_()),
        pa.field("palette_hash", pa.string()),
        pa.field("decoder", pa.string()),
        pa.field("error", pa.string()),
        pa.field(
            "provenance",
            pa.struct([("uri", pa.string()), ("member", pa.string()), ("content_hash", pa.string())]),
        ),
        pa.field("producer", pa.binary()),
        pa.field("seq", pa.int64()),
        pa.field("seq_last", pa.int64()),
        pa.field("first_tile", pa.int64()),
        pa.field("tile_count", pa.int64()),
        pa.field("index_crc32c", pa.uint32()),
    ]
)
"""The schema of a frames file: one row a logged value.

`source`: "plane" (a source plane holds the logged bytes), "tiles" (the tiles hold them exactly) or "none".
`first_tile`: a row of the segment's tiles file. See docs/store-format.md."""

TILES = pa.schema(
    [
        pa.field("payload", pa.large_binary(), nullable=False),
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("plane", pa.string(), nullable=False),
        pa.field("level", pa.int32(), nullable=False),
        pa.field("x", pa.int32(), nullable=False),
        pa.field("y", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("row_pitch", pa.int64(), nullable=False),
        pa.field("codec", pa.string(), nullable=False),
        pa.field("raw_size", pa.int64(), nullable=False),
        pa.field("value_min", pa.float64()),
        pa.field("value_max", pa.float64()),
        pa.field("crc32c", pa.uint32(), nullable=False),
    ]
)
"""The schema of a tiles file: one row a tile.

`frame`: the row of its frame in the segment's frames file. `crc32c`: the checksum of the stored payload."""


LOG = pa.schema(
    [
        pa.field("payload", pa.large_binary(), nullable=False),
        pa.field("producer", pa.binary(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("parts", pa.int32(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("value", pa.string()),
    ]
)
"""The schema of the messages to a service: one row a logged value, or one part of a large one; see lumatile.wire.

`size`: the bytes of the whole payload. `value`: JSON, in the first part."""
