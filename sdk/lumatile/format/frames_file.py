"""The content of a frames file: what it holds, and how it is checked and parsed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from crc32c import crc32c as checksum

from lumatile.errors import CorruptStoreError, StoreError, StoreFormatError
from lumatile.format.schema import FORMAT_VERSION, FRAMES

ALWAYS_THERE = ("entity_path", "kind", "log_time", "log_tick", "producer", "seq", "first_tile", "tile_count")
"""The columns that are never null."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """The content of a frames file."""

    table: pa.Table
    """Its rows: schema FRAMES, without metadata."""
    application_id: str
    recording_id: str
    replaces: tuple[str, ...]
    """The segments that this one replaces: they are invisible from now on."""


def parse_frames(content: bytes, *, crc32c: int, path: Path | str) -> Frames:
    """Check and parse the content of a frames file.

    `crc32c`: its checksum, as its name says; `path`: a path or URL, for messages. Raises CorruptStoreError where the
    bytes are not those that were written, StoreFormatError where the file is of a newer format version.
    """
    if checksum(content) != crc32c:
        raise CorruptStoreError(f"{path}: its CRC32C must be {crc32c:08x}, not {checksum(content):08x}")
    try:
        table = pa.ipc.open_file(pa.py_buffer(content)).read_all()
        metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        version = int(metadata["lumatile.format_version"])
        if version > FORMAT_VERSION:
            raise StoreFormatError(
                f"{path}: the store has format version {version}, this lumatile reads up to {FORMAT_VERSION}: "
                "use a newer one"
            )
        if not table.schema.equals(FRAMES):
            raise CorruptStoreError(f"{path}: not the columns of format version {version}")
        table.validate(full=True)
        missing = [name for name in ALWAYS_THERE if table[name].null_count]
        if missing:
            raise CorruptStoreError(f"{path}: rows without {', '.join(missing)}")
        replaces = json.loads(metadata.get("lumatile.replaces", "[]"))
        if not isinstance(replaces, list) or not all(isinstance(name, str) for name in replaces):
            raise CorruptStoreError(f"{path}: `replaces` must be a list of segments, not {replaces!r:.80}")
        return Frames(
            table=table.replace_schema_metadata(None),
            application_id=metadata["lumatile.application_id"],
            recording_id=metadata["lumatile.recording_id"],
            replaces=tuple(replaces),
        )
    except StoreError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError) as e:
        raise CorruptStoreError(f"{path}: {e}") from e
