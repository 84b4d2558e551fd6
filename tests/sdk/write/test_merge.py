"""Small segments become larger ones; nothing a reader sees changes."""

import numpy as np
import pytest

from lumatile.errors import StoreDeniedError
from lumatile.format.tile_rows import TileRows
from lumatile.read.store import open_store
from lumatile.read.verify import verify
from lumatile.settings import RecordingSettings
from lumatile.storage.local_directory import LocalDirectory
from lumatile.write import merge
from lumatile.write.writer import SegmentWriter

SETTINGS = RecordingSettings(application_id="app", recording_id="run")


def texels(seq):
    """The content of value `seq`: 8 x 8 texels of r32float."""
    return np.random.default_rng(seq).random((8, 8), np.float32)


def depth_tile(seq):
    """The only tile of value `seq`."""
    one = np.ones(1, np.int32)
    payload = np.zeros((8, 64), np.float32)
    payload[:, :8] = texels(seq)
    return TileRows(
        plane="pixels",
        codec="raw",
        level=one * 0,
        x=one * 0,
        y=one * 0,
        width=one * 8,
        height=one * 8,
        row_pitch=np.array([256]),
        raw_size=np.array([2048]),
        offsets=np.array([0, 2048]),
        payload=payload.reshape(-1).view(np.uint8),
    )


def write(target, seqs, *, values_per_segment=1):
    for seq in seqs:
        row = {
            "entity_path": "d",
            "kind": "depth",
            "log_time": seq,
            "log_tick": seq,
            "sequences": {"frame": seq},
            "times": {"sim": 10**18 + seq},
            "timeless": False,
            "shape": (8, 8),
            "tile_format": "r32float",
            "levels": 1,
            "producer": b"p" * 16,
            "seq": seq,
        }
        target.append(row, [depth_tile(seq)])
        if target.values == values_per_segment:
            target.commit()


def segments(store):
    """Names of the committed segments that have a tiles file."""
    tiles = {path.stem for path in (store / "run" / "tiles").iterdir()}
    frames = {path.name[:48] for path in (store / "run" / "frames").iterdir()}
    assert tiles == frames
    return frames


def assert_all_there(recording, count):
    frames = recording.frames("d")
    assert [frame.key[1] for frame in frames] == list(range(count))
    for seq, frame in enumerate(frames):
        assert frame.times["frame"] == seq
        assert frame.times["sim"] == np.datetime64(10**18 + seq, "ns")
        np.testing.assert_array_equal(frame.depth(), texels(seq))
        assert recording.latest_at("d", frame=seq).key == frame.key


def test_sixteen_small_segments_become_one_with_the_same_content(tmp_path):
    target = SegmentWriter(tmp_path, SETTINGS)
    write(target, range(45), values_per_segment=3)
    target.close()
    assert len(segments(tmp_path)) == 15
    target = SegmentWriter(tmp_path, SETTINGS)
    write(target, range(45, 45 + 48), values_per_segment=3)
    target.close()
    assert len(segments(tmp_path)) == 15 + 16 + 1  # what was replaced is still there
    recording = open_store(tmp_path).recording()
    assert_all_there(recording, 93)
    report = verify(tmp_path)
    assert report.ok
    assert report.segments == 16
    assert report.frames == report.tiles == 93
    assert report.duplicates == 0


def test_large_segments_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(merge, "SMALL_BYTES", 4096)
    target = SegmentWriter(tmp_path, SETTINGS)
    write(target, range(32))
    target.close()
    assert len(segments(tmp_path)) == 32


def test_replaced_segments_are_deleted_after_a_minute(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(merge.time, "monotonic", lambda: now[0])
    target = SegmentWriter(tmp_path, SETTINGS)
    write(target, range(16))
    target._merger._tasks.put(lambda: now.__setitem__(0, now[0] + 59))
    write(target, [16])
    target._merger._tasks.put(lambda: now.__setitem__(0, now[0] + 2))
    write(target, [17])
    target.close()
    assert len(segments(tmp_path)) == 3
    assert_all_there(open_store(tmp_path).recording(), 18)


def test_the_next_writer_deletes_what_was_replaced(tmp_path, monkeypatch):
    target = SegmentWriter(tmp_path, SETTINGS)
    write(target, range(16))
    target.close()
    assert len(segments(tmp_path)) == 17
    SegmentWriter(tmp_path, SETTINGS).close()
    assert len(segments(tmp_path)) == 17  # not yet a minute old
    monkeypatch.setattr(merge, "KEEP_SECONDS", 0.0)
    SegmentWriter(tmp_path, SETTINGS).close()
    assert len(segments(tmp_path)) == 1
    assert_all_there(open_store(tmp_path).recording(), 16)


def test_a_long_slow_stream_stays_few_files(tmp_path, monkeypatch):
    monkeypatch.setattr(merge, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(merge, "FAN_IN", 4)
    target = SegmentWriter(tmp_path, SETTINGS)
    write(target, range(400))
    target.close()
    assert len(segments(tmp_path)) <= 3 * 5 + 4  # at most 3 of each of 5 generations, and those just replaced
    assert_all_there(open_store(tmp_path).recording(), 400)
    assert verify(tmp_path).ok


def test_merged_segments_that_are_merged_again_stay_hidden(tmp_path, monkeypatch):
    monkeypatch.setattr(merge, "FAN_IN", 2)
    target = SegmentWriter(tmp_path, SETTINGS)
    write(target, range(8))
    target.close()
    assert len(segments(tmp_path)) == 8 + 4 + 2 + 1
    report = verify(tmp_path)
    assert (report.segments, report.frames, report.duplicates) == (1, 8, 0)
    for path in sorted((tmp_path / "run" / "frames").iterdir())[-4:-1]:
        path.unlink()  # of the middle generations, in any order: the last one hides all the same
    assert_all_there(open_store(tmp_path).recording(), 8)
    assert verify(tmp_path).segments == 1


def test_a_reader_that_knows_replaced_segments_reads_on(tmp_path, monkeypatch):
    target = SegmentWriter(tmp_path, SETTINGS)
    write(target, range(15))
    recording = open_store(tmp_path).recording()
    opened, not_yet = recording.frames("d")[3], recording.frames("d")[4]
    mapped = opened.tile()
    monkeypatch.setattr(merge, "KEEP_SECONDS", -1.0)
    write(target, [15, 16])
    target.close()
    assert len(segments(tmp_path)) == 2
    np.testing.assert_array_equal(mapped[..., 0], texels(3))
    np.testing.assert_array_equal(opened.depth(), texels(3))
    np.testing.assert_array_equal(not_yet.depth(), texels(4))
    assert_all_there(recording, 17)


def test_a_merge_brings_no_new_frames(tmp_path):
    target = SegmentWriter(tmp_path, SETTINGS)
    write(target, range(15))
    recording = open_store(tmp_path).recording()
    following = recording.follow(poll=0, timeout=0)
    write(target, [15])
    target.close()
    assert recording.refresh() == 1
    assert recording.refresh() == 0
    assert [frame.key[1] for frame in following] == [15]
    assert len(recording) == 16


def test_damaged_segments_are_not_merged_over(tmp_path, caplog):
    target = SegmentWriter(tmp_path, SETTINGS)
    write(target, range(15))
    path = sorted((tmp_path / "run" / "tiles").iterdir())[7]
    content = bytearray(path.read_bytes())
    content[content.index(texels(7).tobytes()[:16])] ^= 1
    path.write_bytes(content)
    write(target, [15])
    target.close()
    assert "segments are not merged" in caplog.text
    assert len(segments(tmp_path)) == 16
    (problem,) = verify(tmp_path).problems
    assert problem.path == path


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_merge_that_fails_loses_nothing(tmp_path, monkeypatch, call, caplog):
    target = SegmentWriter(tmp_path, SETTINGS)
    write(target, range(15))
    target._merger._tasks.put(lambda: monkeypatch.setattr(merge, "Segment", failing(call)))
    write(target, [15])
    target.close()
    assert "segments are not merged" in caplog.text
    assert len(segments(tmp_path)) == 16
    assert_all_there(open_store(tmp_path).recording(), 16)


def test_a_merge_that_fails_unexpectedly_does_not_end_merging(tmp_path, monkeypatch, caplog):
    real, failures = merge.merge, [MemoryError("no room")]

    def once(*args):
        if failures:
            raise failures.pop()
        return real(*args)

    monkeypatch.setattr(merge, "merge", once)
    target = SegmentWriter(tmp_path, SETTINGS)
    write(target, range(32))
    target.close()
    assert "segments are not merged" in caplog.text
    assert_all_there(open_store(tmp_path).recording(), 32)
    assert verify(tmp_path).segments == 16 + 1
    assert verify(tmp_path).segments == 17


def test_segments_are_merged_where_nothing_may_be_deleted(tmp_path, monkeypatch, caplog):
    def denied(*_):
        raise StoreDeniedError("a writer may only write")

    monkeypatch.setattr(merge, "KEEP_SECONDS", -1.0)
    monkeypatch.setattr(LocalDirectory, "delete", denied)
    target = SegmentWriter(tmp_path, SETTINGS)
    write(target, range(48))
    target.close()
    assert verify(tmp_path).segments == 3
    assert_all_there(open_store(tmp_path).recording(), 48)
    assert "left to the next writer" in caplog.text


def failing(call):
    """A segment whose commit fails at its last `call`."""

    class Failing(merge.Segment):
        def commit(self, frames, replaces=()):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    f"lumatile.storage.local_directory.{'os.fsync' if call == 'fsync' else 'Path.rename'}", no_space
                )
                return super().commit(frames, replaces)

    return Failing


def no_space(*_):
    raise OSError(28, "No space left on device")
