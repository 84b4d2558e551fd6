"""What a segment writer leaves on disk, looked at with pyarrow and struct alone.

Longer than other files: its tests share a reader of files that uses no code of ours.
"""

import json
import mmap
import os
import struct
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumatile.buffers import POOL
from lumatile.errors import InvalidValueError, SinkError
from lumatile.format.schema import FRAMES
from lumatile.format.tile_rows import TileRows
from lumatile.settings import RecordingSettings
from lumatile.storage import direct_file
from lumatile.storage.direct_file import PAGE, STAGING, DirectFile
from lumatile.storage.write_behind import WriteBehind
from lumatile.write import writer
from lumatile.write.writer import SegmentWriter


def crc32c(data):
    """Bit by bit, as RFC 3720 has it: reflected polynomial 0x82f63b78."""
    crc = 0xFFFFFFFF
    for byte in bytes(data):
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def tile_rows(sizes, *, plane="pixels", value_range=None, seed=0):
    """A row for each of `sizes` bytes, of random content."""
    numbers = np.arange(len(sizes), dtype=np.int32)
    payload = POOL.take(sum(sizes))
    payload[:] = np.random.default_rng(seed).integers(0, 256, sum(sizes), np.uint8)
    return TileRows(
        plane=plane,
        codec="raw",
        level=numbers,
        x=numbers + 1,
        y=numbers + 2,
        width=numbers + 3,
        height=numbers + 4,
        row_pitch=numbers.astype(np.int64) * 256,
        raw_size=np.array(sizes, np.int64),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        payload=payload,
        value_range=value_range,
    )


def row(seq, **columns):
    """The least that a frames row has."""
    required = {
        "entity_path": "a",
        "kind": "image",
        "log_time": seq,
        "log_tick": seq,
        "producer": b"p" * 16,
        "seq": seq,
    }
    return required | columns


@pytest.fixture
def settings():
    return RecordingSettings(application_id="app", recording_id="run")


@pytest.fixture
def target(tmp_path, settings):
    """A writer, closed at the end."""
    opened = SegmentWriter(tmp_path, settings)
    yield opened
    opened.close()


def only(directory):
    """The one file there is."""
    (path,) = directory.iterdir()
    return path


def read(path):
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file.read()).read_all()


def test_what_was_appended_is_what_arrow_reads(tmp_path, target):
    sizes = [[300, 0, 70_000], [5], [1 << 20]]
    for seq, each in enumerate(sizes):
        target.append(row(seq, sequences={"frame": seq * 10}, times={"sim": seq}), [tile_rows(each, seed=seq)])
    target.commit()
    frames, tiles = read(only(tmp_path / "run" / "frames")), read(only(tmp_path / "run" / "tiles"))

    assert frames.schema.equals(FRAMES)
    assert frames["seq"].to_pylist() == [0, 1, 2]
    assert frames["sequences"].to_pylist() == [[("frame", 0)], [("frame", 10)], [("frame", 20)]]
    assert frames["first_tile"].to_pylist() == [0, 3, 4]
    assert frames["tile_count"].to_pylist() == [3, 1, 1]
    metadata = pa.ipc.open_file(only(tmp_path / "run" / "frames")).schema.metadata
    assert metadata[b"lumatile.format_version"] == b"2"
    assert metadata[b"lumatile.application_id"] == b"app"
    assert json.loads(metadata[b"lumatile.settings"])["tile_format"] == "linear"

    assert tiles["frame"].to_pylist() == [0, 0, 0, 1, 2]
    assert tiles["height"].to_pylist() == [4, 5, 6, 4, 4]
    expected = [tile_rows(each, seed=seq) for seq, each in enumerate(sizes)]
    parts = [bytes(e.payload[a:b]) for e in expected for a, b in zip(e.offsets, e.offsets[1:], strict=False)]
    assert tiles["payload"].to_pylist() == parts


def test_the_frames_file_is_named_after_its_own_checksum(tmp_path, target):
    target.append(row(0), [])
    target.commit()
    path = only(tmp_path / "run" / "frames")
    assert path.stem.split("-")[1] == f"{crc32c(path.read_bytes()):08x}"


def test_checksums_are_those_of_the_format_document(tmp_path, target):
    ranges = np.array([[0.5, 2.0], [-np.nan, np.nan]])
    target.append(row(0), [tile_rows([7, 300], value_range=ranges), tile_rows([9], plane="source")])
    target.commit()
    tiles = read(only(tmp_path / "run" / "tiles")).to_pylist()
    assert [tile["crc32c"] for tile in tiles] == [crc32c(tile["payload"]) for tile in tiles]
    assert [tile["value_min"] for tile in tiles] == [0.5, None, None]

    nan = bytes.fromhex("000000000000f87f")
    index = b"".join(
        struct.pack(
            "<16s8s5i3q",
            *(t["plane"].encode(), t["codec"].encode(), t["level"], t["x"], t["y"], t["width"], t["height"]),
            *(t["row_pitch"], t["raw_size"], len(t["payload"])),
        )
        + b"".join(nan if t[name] is None else struct.pack("<d", t[name]) for name in ("value_min", "value_max"))
        + struct.pack("<I", t["crc32c"])
        for t in tiles
    )
    assert len(index) == 3 * 88
    assert read(only(tmp_path / "run" / "frames"))["index_crc32c"].to_pylist() == [crc32c(index)]


def test_payloads_start_where_a_gpu_can_take_them(tmp_path, target):
    rng = np.random.default_rng(1)
    for seq in range(60):
        sizes = (rng.integers(0, 60, int(rng.integers(1, 9))) * 1024).tolist()
        target.append(row(seq), [tile_rows(sizes), tile_rows([5, 6, int(rng.integers(9000))])])
    target.commit()
    with only(tmp_path / "run" / "tiles").open("rb") as file:
        whole = pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        reader = pa.ipc.open_file(pa.BufferReader(whole))
        aligned_to_pages = 0
        for i in range(reader.num_record_batches):
            data = reader.get_batch(i).column(0).buffers()[2]
            if data is not None and data.size:
                assert (data.address - whole.address) % (4096 if data.size >= 65_536 else 256) == 0
                aligned_to_pages += data.size >= 65_536
        assert reader.num_record_batches == 120
        assert aligned_to_pages > 20
        del data, reader, whole


def test_nothing_is_visible_before_the_commit(tmp_path, target):
    target.append(row(0), [tile_rows([10])])
    assert list((tmp_path / "run" / "frames").iterdir()) == []
    assert target.values == 1
    target.commit()
    assert target.values == 0
    assert len(list((tmp_path / "run" / "frames").iterdir())) == 1


def test_a_commit_without_values_writes_nothing(tmp_path, target):
    target.commit()
    assert list((tmp_path / "run" / "tiles").iterdir()) == []


@pytest.mark.parametrize("drop", ["abort", "tiles that raise"])
def test_a_dropped_segment_leaves_nothing(tmp_path, target, drop):
    target.append(row(0), [tile_rows([10])])
    if drop == "abort":
        target.abort()
    else:

        def broken():
            yield tile_rows([10])
            raise RuntimeError("decoder")

        with pytest.raises(RuntimeError, match="decoder"):
            target.append(row(1), broken())
    assert target.values == 0
    assert target.deadline is None
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == []
    target.append(row(0), [tile_rows([10])])
    target.commit()
    assert read(only(tmp_path / "run" / "frames"))["seq"].to_pylist() == [0]


def test_a_row_may_be_completed_while_its_tiles_are_made(tmp_path, target):
    late = row(0)

    def tiles():
        yield tile_rows([10])
        late["palette_hash"] = "known only now"

    target.append(late, tiles())
    target.commit()
    assert read(only(tmp_path / "run" / "frames"))["palette_hash"].to_pylist() == ["known only now"]


def test_a_segment_is_full_after_the_value_that_crosses_the_size(tmp_path, settings):
    target = SegmentWriter(tmp_path, settings, segment_bytes=1 << 20)
    target.append(row(0), [tile_rows([1 << 19])])
    assert not target.full
    target.append(row(1), [tile_rows([1 << 19])])
    assert target.full
    target.commit()
    assert not target.full
    target.close()


def test_the_deadline_is_half_a_second_after_the_first_value(target, monkeypatch):
    monkeypatch.setattr(writer.time, "monotonic", lambda: 100.0)
    assert target.deadline is None
    target.append(row(0), [])
    monkeypatch.setattr(writer.time, "monotonic", lambda: 100.4)
    target.append(row(1), [])
    assert target.deadline == 100.5


def test_a_store_that_cannot_be_written_is_said_at_once(tmp_path, settings):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match=r"must be a directory that can be written: .*file"):
        SegmentWriter(tmp_path / "file" / "store", settings)


@pytest.mark.parametrize("recording_id", ["../up", ".", "..", "a/b", "/etc", "ümläut", "a b", "%2E", "C:\\x", "\n"])
def test_no_recording_id_leads_out_of_the_store(tmp_path, recording_id):
    SegmentWriter(tmp_path / "store", RecordingSettings(application_id="a", recording_id=recording_id)).close()
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    (directory,) = (tmp_path / "store").iterdir()
    assert set(directory.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-%")
    assert sorted(path.name for path in directory.iterdir()) == ["frames", "tiles"]


def test_a_recording_id_too_long_for_a_file_name_is_refused(tmp_path):
    SegmentWriter(tmp_path, RecordingSettings(application_id="a", recording_id="x" * 200)).close()
    with pytest.raises(InvalidValueError, match=r"1 to 200 bytes percent-encoded, not 201"):
        SegmentWriter(tmp_path, RecordingSettings(application_id="a", recording_id="x" * 201))


@given(
    pieces=st.lists(
        st.tuples(st.sampled_from(["bytes", "aligned", "unaligned"]), st.integers(0, 3 * PAGE)), min_size=1, max_size=30
    )
)
def test_a_direct_file_holds_what_was_written(tmp_path_factory, pieces):
    path = tmp_path_factory.mktemp("direct") / "file"
    rng = np.random.default_rng(len(pieces))
    disk = WriteBehind()
    file, expected = DirectFile(path, disk), b""
    for kind, size in pieces:
        content = rng.bytes(size)
        memory = mmap.mmap(-1, size + PAGE)
        start = 1 if kind == "unaligned" else 0
        memory[start : start + size] = content
        whole = pa.py_buffer(memory)
        file.write(content if kind == "bytes" else whole.slice(start, size))
        expected += content
        assert file.tell() == len(expected)
    file.finish()
    file.close()
    disk.close()
    assert path.read_bytes() == expected


class AtOnce(WriteBehind):
    """A disk that has written before the caller goes on."""

    def start(self, write):
        super().start(write)
        while self._results.empty():
            time.sleep(0.001)


@pytest.mark.parametrize("kind", [WriteBehind, AtOnce])
def test_a_direct_file_larger_than_its_buffer_holds_what_was_written(tmp_path, kind):
    content = np.random.default_rng(0).bytes(5 * STAGING + 12_345)
    disk = kind()
    file = DirectFile(tmp_path / "file", disk)
    for start in range(0, len(content), 300_000):
        file.write(content[start : start + 300_000])
        assert file.tell() == min(start + 300_000, len(content))
    file.finish()
    file.close()
    disk.close()
    assert (tmp_path / "file").read_bytes() == content


def test_whatever_a_write_raises_is_met_by_who_waits_and_the_next_one_is_done():
    """A writer whose disk thread had died would wait for ever, and its values with it."""

    def fail():
        raise MemoryError("no room")

    disk = WriteBehind()
    disk.start(fail)
    with pytest.raises(MemoryError, match="no room"):
        disk.wait()
    done = []
    disk.start(lambda: done.append(1))
    disk.start(fail)
    disk.close()
    assert done == [1]


@pytest.mark.skipif(not direct_file._DIRECT, reason="this system has no O_DIRECT")
@pytest.mark.parametrize("refused_at", ["open", "write"])
def test_file_systems_without_direct_io_are_written_through_the_cache(tmp_path, monkeypatch, refused_at):
    def refuse(function, flags_of):
        def wrapped(first, *rest, **named):
            if flags_of(first, *rest) & os.O_DIRECT:
                Path(tmp_path / "file").touch()
                raise OSError(22, "Invalid argument")
            return function(first, *rest, **named)

        return wrapped

    if refused_at == "open":
        monkeypatch.setattr(os, "open", refuse(os.open, lambda _, flags, *__: flags))
    else:
        monkeypatch.setattr(
            os, "pwritev", refuse(os.pwritev, lambda fd, *_: direct_file.fcntl.fcntl(fd, direct_file.fcntl.F_GETFL))
        )
    disk = WriteBehind()
    file = DirectFile(tmp_path / "file", disk)
    file.write(b"x" * 10_000)
    file.finish()
    file.close()
    disk.close()
    assert (tmp_path / "file").read_bytes() == b"x" * 10_000
