"""Taking rows out of a recording: segments are replaced by ones without them, as a merge replaces them."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing, suppress
from os import PathLike

from lumatile.errors import CorruptStoreError
from lumatile.format.frames_file import Frames
from lumatile.format.segment_names import FramesFile
from lumatile.settings import RecordingSettings
from lumatile.storage.open_storage import open_storage
from lumatile.storage.write_behind import WriteBehind
from lumatile.write.merge import merge

GROUP_BYTES = 256 << 20
"""The size of the segments that are replaced by one, in bytes."""


def withdraw(store: str | PathLike[str], settings: RecordingSettings, keys: Collection[tuple[bytes, int]]) -> None:
    """Take the rows with these keys (producer, seq) out of a recording, whose id is that of `settings`.

    Nobody may be writing these rows. Their files stay until the next writer deletes replaced segments. Raises OSError,
    StoreError; then a part of the rows may be taken out.
    """
    storage = open_storage(store).recording(settings.recording_id)
    frames: dict[FramesFile, Frames] = {}
    for file in storage.committed():
        with suppress(FileNotFoundError, CorruptStoreError):  # another writer deletes it, or verify names it
            frames[file] = storage.read_frames(file)
    hidden = {name for each in frames.values() for name in each.replaces}
    group: list[FramesFile] = []
    with closing(WriteBehind()) as disk:
        for file, each in frames.items():
            if file.segment in hidden:
                continue
            found = zip(each.table["producer"].to_pylist(), each.table["seq"].to_pylist(), strict=True)
            if any(key in keys for key in found):
                group.append(file)
            if group and storage.nbytes(group) >= GROUP_BYTES:
                merge(storage, settings, disk, group, without=keys)
                group = []
        if group:
            merge(storage, settings, disk, group, without=keys)
