"""Verify names what is broken, and nothing else."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import lumatile as lt
from lumatile.errors import StoreFormatError
from lumatile.format.arrow_layout import END_BYTES, footer_size, read_footer, read_head
from lumatile.read.store import open_store
from lumatile.read.verify import verify
from lumatile.settings import RecordingSettings
from lumatile.storage.local_directory import LocalDirectory
from lumatile.write.writer import SegmentWriter


@pytest.fixture
def store(tmp_path, name, one_segment):
    """A store with a recording of an image of 12 tiles, a segmentation and a cloud."""
    rng = np.random.default_rng(0)
    recording = lt.new_recording("tests", "run", sink=f"memory://{name}", strict=True)
    recording.save(str(tmp_path / "store"), backend="numpy")
    recording.log_image("picture", rng.integers(0, 256, (600, 700, 3), np.uint8))
    recording.log_segmentation_image("classes", rng.integers(0, 9, (100, 90), np.uint8))
    recording.log_points("cloud", rng.random((100, 3)))
    recording.flush()
    recording.disconnect()
    return tmp_path / "store"


def tiles_file(store):
    (path,) = (store / "run" / "tiles").iterdir()
    return path


def frames_file(store):
    (path,) = (store / "run" / "frames").iterdir()
    return path


def flip(path, where):
    content = bytearray(path.read_bytes())
    content[where] ^= 0x10
    path.write_bytes(content)


def test_a_whole_store_has_no_problems(store):
    report = verify(store)
    assert report.ok
    assert (report.recordings, report.segments, report.frames) == (1, 1, 3)
    assert report.nbytes == tiles_file(store).stat().st_size + frames_file(store).stat().st_size
    with pa.memory_map(str(tiles_file(store))) as file:
        assert report.tiles == pa.ipc.open_file(file).read_all().num_rows
    assert not report.garbage
    assert verify(open_store(store)) == report


def test_every_flipped_payload_byte_is_found_and_its_tile_named(store):
    with tiles_file(store).open("rb") as file:
        whole = pa.py_buffer(file.read())
    reader = pa.ipc.open_file(pa.BufferReader(whole))
    original = tiles_file(store).read_bytes()
    shared = []
    for i in range(reader.num_record_batches):
        batch, metadata = reader.get_batch_with_custom_metadata(i)
        if metadata is None:
            shared.append(i)
            continue
        start = batch.column(0).buffers()[2].address - whole.address
        n = len(batch) - 1  # the last tile, its first byte
        flip(tiles_file(store), start + sum(len(payload.as_py()) for payload in batch.column(0)[:n]))
        (problem,) = verify(store).problems
        tile = batch.slice(n).to_pylist()[0]
        assert problem.path == tiles_file(store)
        assert problem.entity_path == {0: "picture", 1: "classes", 2: "cloud"}[tile["frame"]]
        assert problem.tile == f"{tile['plane']} level={tile['level']} x={tile['x']} y={tile['y']}"
        assert problem.tile in str(problem)
        tiles_file(store).write_bytes(original)
    assert verify(store).ok
    assert shared == [reader.num_record_batches - 1]  # the cloud's


def test_every_flipped_byte_of_a_shared_batch_is_found(tmp_path):
    recording = lt.new_recording("tests", "run", sink=str(tmp_path), strict=True)
    for i in range(20):
        recording.log_points("cloud", np.random.default_rng(i).random((5, 3), np.float32))
    recording.disconnect()
    original = tiles_file(tmp_path).read_bytes()
    (block,) = read_footer(original[-END_BYTES - footer_size(original[-END_BYTES:]) : -END_BYTES])
    begin = int(block["offset"] + block["head"])
    layout = read_head(original[int(block["offset"]) : begin])
    assert layout.compressed
    found, whole = 0, pa.ipc.open_file(pa.py_buffer(original)).read_all()
    for start, size in layout.buffers.tolist():
        for where in range(begin + start, begin + start + size, 19):  # between the buffers there is padding
            flip(tiles_file(tmp_path), where)
            problems = verify(tmp_path).problems
            assert all(problem.path == tiles_file(tmp_path) for problem in problems)
            if not problems:  # it says nothing: in a null, or in a header of zstd
                assert pa.ipc.open_file(tiles_file(tmp_path)).read_all().equals(whole)
            found += bool(problems)
            tiles_file(tmp_path).write_bytes(original)
    assert found > 20


def test_a_changed_index_is_found(store):
    content = tiles_file(store).read_bytes()
    pitches = np.array([2048, 2048, 1536])  # of the first row of tiles
    flip(tiles_file(store), content.index(pitches.tobytes()) + 1)
    (problem,) = verify(store).problems
    assert problem.entity_path == "picture"
    assert problem.tile is None


@pytest.mark.parametrize("keep", [0, 100, -1000])
def test_a_torn_tiles_file_is_found(store, keep):
    path = tiles_file(store)
    path.write_bytes(path.read_bytes()[:keep])
    (problem,) = verify(store).problems
    assert problem.path == path


def test_a_missing_tiles_file_is_found(store):
    path = tiles_file(store)
    path.unlink()
    (problem,) = verify(store).problems
    assert problem.path == path
    assert "missing" in problem.what


@pytest.mark.parametrize("where", [0, 500, -1])
def test_a_changed_frames_file_is_found_and_left_out_of_reading(store, where):
    flip(frames_file(store), where)
    (problem,) = verify(store).problems
    assert problem.path == frames_file(store)
    assert "CRC32C" in problem.what
    with pytest.warns(lt.LumatileWarning, match="a damaged segment is left out"):
        recording = open_store(store).recording("run")
    assert recording.entities() == []
    assert len(recording.damaged) == 1


def test_leftovers_of_dead_writers_are_no_problem(store):
    garbage = [
        store / "run" / "frames" / f".{'0' * 48}-00000000.arrow.tmp",
        store / "run" / "tiles" / f"{'0' * 48}.arrow",
    ]
    for path in garbage:
        path.write_bytes(b"torn")
    report = verify(store)
    assert report.ok
    assert report.garbage == garbage
    assert len(open_store(store).recording()) == 3


def test_duplicates_and_drops_are_counted_and_are_no_problem(tmp_path):
    row = {"entity_path": "a", "kind": "image", "log_time": 0, "log_tick": 0, "producer": b"p" * 16}
    target = SegmentWriter(tmp_path, RecordingSettings(application_id="a", recording_id="r"))
    target.append(row | {"seq": 0}, [])
    target.append(row | {"seq": 1}, [])
    target.commit()
    target.append(row | {"seq": 1}, [])
    target.append(row | {"seq": 2, "kind": "gap", "seq_last": 11}, [])
    target.append(row | {"seq": 12, "kind": "gap"}, [])
    target.close()
    report = verify(tmp_path)
    assert report.ok
    assert (report.frames, report.duplicates, report.dropped) == (5, 1, 11)


def test_a_newer_format_is_named_not_guessed_at(store):
    directory = LocalDirectory(path=store / "run")
    (file,) = directory.committed()
    table = pa.ipc.open_file(directory.frames_path(file)).read_all()
    newer = {**table.schema.metadata, b"lumatile.format_version": b"7"}
    stream = pa.BufferOutputStream()
    with pa.ipc.new_file(stream, table.schema.with_metadata(newer)) as target:
        target.write_table(table)
    import google_crc32c

    content = stream.getvalue().to_pybytes()
    directory.frames_path(replace(file, crc32c=google_crc32c.value(content))).write_bytes(content)
    directory.frames_path(file).unlink()
    for use in (verify, lambda path: open_store(path).recording("run"), lambda path: open_store(path).recordings()):
        with pytest.raises(StoreFormatError, match="format version 7, this lumatile reads up to 2"):
            use(store)


def test_what_is_no_store_is_said(tmp_path):
    with pytest.raises(StoreFormatError, match="must be a directory"):
        verify(tmp_path / "nothing")
