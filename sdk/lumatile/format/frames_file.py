"""Reading the frames file of a committed segment."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pyarrow as pa
from crc32c import crc32c

from lumatile.errors import CorruptStoreError, StoreError, StoreFormatError
from lumatile.format.schema import FORMAT_VERSION, FRAMES
from lumatile.format.segment_names import FramesFile

ALWAYS_THERE = ("entity_path", "kind", "log_time", "log_tick", "producer", "seq", "first_tile", "tile_count")
"""Columns that are never null."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """What a frames file says."""

    table: pa.Table
    """Its rows (schema FRAMES, without metadata)."""
    application_id: str
    recording_id: str
    replaces: tuple[str, ...]
    """Segments that are invisible from now on."""


def read_frames_file(file: FramesFile) -> Frames:
    """Read and check a frames file.

    Raises FileNotFoundError where it is gone, OSError where it cannot be read, CorruptStoreError where its bytes are
    not what was written, StoreFormatError where it is of a newer format version.
    """
    content = file.read()
    if crc32c(content) != file.crc32c:
        raise CorruptStoreError(f"{file.path}: its CRC32C must be {file.crc32c:08x}, not {crc32c(content):08x}")
    try:
        table = pa.ipc.open_file(pa.py_buffer(content)).read_all()
        metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        version = int(metadata["lumatile.format_version"])
        if version > FORMAT_VERSION:
            raise StoreFormatError(
                f"{file.path}: the store has format version {version}, this lumatile reads up to {FORMAT_VERSION}: "
                "use a newer one"
            )
        if not table.schema.equals(FRAMES):
            raise CorruptStoreError(f"{file.path}: not the columns of format version {version}")
        table.validate(full=True)
        missing = [name for name in ALWAYS_THERE if table[name].null_count]
        if missing:
            raise CorruptStoreError(f"{file.path}: rows without {', '.join(missing)}")
        replaces = json.loads(metadata.get("lumatile.replaces", "[]"))
        if not isinstance(replaces, list) or not all(isinstance(name, str) for name in replaces):
            raise CorruptStoreError(f"{file.path}: `replaces` must be a list of segments, not {replaces!r:.80}")
        return Frames(
            table=table.replace_schema_metadata(None),
            application_id=metadata["lumatile.application_id"],
            recording_id=metadata["lumatile.recording_id"],
            replaces=tuple(replaces),
        )
    except StoreError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError) as e:
        raise CorruptStoreError(f"{file.path}: {e}") from e
