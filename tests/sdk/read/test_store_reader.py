"""Reading a store back, also while it is written.

Longer than other files: its tests share the stores that they read.
"""

import os
import shutil
import statistics
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest

import lumatile as lt
from lumatile.errors import (
    CorruptStoreError,
    InvalidTypeError,
    InvalidValueError,
    NotFoundError,
    SourceNotKeptError,
    StoreError,
    StoreFormatError,
)
from lumatile.format.tile_rows import INDEX_ROW
from lumatile.read import recording_reader
from lumatile.read.frame_tiles import FrameTiles, find_tiles
from lumatile.read.store import open_store
from lumatile.settings import RecordingSettings
from lumatile.write.writer import SegmentWriter

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (600, 700, 3), np.uint8)


@pytest.fixture
def log(tmp_path, name):
    """A recording into `tmp_path`, which is the store."""
    recording = lt.new_recording("app", "run", sink=f"memory://{name}", strict=True)
    recording.save(str(tmp_path), backend="numpy")
    yield recording
    recording.disconnect()


def read(tmp_path):
    return open_store(tmp_path).recording("run")


def row(seq, **columns):
    required = {
        "entity_path": "a",
        "kind": "image",
        "log_time": seq,
        "log_tick": seq,
        "producer": b"p" * 16,
        "seq": seq,
    }
    return required | {"timeless": False, "sequences": {"frame": seq}} | columns


def writer(store, recording_id="run", application_id="app"):
    return SegmentWriter(store, RecordingSettings(application_id=application_id, recording_id=recording_id))


IMAGES = {
    "rgb8": PICTURE,
    "gray8": PICTURE[..., 0],
    "gray8 with axis": PICTURE[..., :1],
    "rgba8": RNG.integers(0, 256, (300, 40, 4), np.uint8),
    "rgba8 opaque": np.concatenate([PICTURE[:99], np.full((99, 700, 1), 255, np.uint8)], axis=2),
    "rgb16": RNG.integers(0, 65536, (40, 300, 3), np.uint16),
    "float16": RNG.random((20, 30, 3)).astype(np.float16),
    "float32 with anything": np.array([[np.nan, -np.inf, 1e30], [-0.0, 0.5, 2.0]], np.float32),
    "float64": RNG.standard_normal((20, 300)),
    "batch of one": PICTURE[np.newaxis],
    "all codes": np.arange(256, dtype=np.uint8).reshape(16, 16),
    "one texel": PICTURE[:1, :1],
    "empty": PICTURE[:0],
}
DEPTHS = {
    "uint16": RNG.integers(0, 65536, (300, 300), np.uint16),
    "all": np.arange(65536, dtype=np.uint16).reshape(256, 256),
    "uint8": RNG.integers(0, 256, (5, 5), np.uint8),
    "float32": RNG.standard_normal((50, 50), np.float32),
    "float64": RNG.standard_normal((50, 50)),
}
IDS = {
    "uint8": RNG.integers(0, 256, (300, 300), np.uint8),
    "uint16": RNG.integers(0, 65536, (300, 30), np.uint16),
    "int64": RNG.integers(0, 65536, (300, 30), np.int64),
    "with axis": RNG.integers(0, 256, (30, 30, 1), np.uint8),
}


def assert_identical(read_back, logged):
    assert read_back.dtype == logged.dtype
    assert read_back.shape == logged.shape
    assert read_back.tobytes() == logged.tobytes()


@pytest.mark.parametrize("tile_format", ["linear", "srgb8", "rgba32float"])
def test_source_gives_every_image_back_exactly(tmp_path, name, tile_format):
    recording = lt.new_recording("app", "run", sink=f"memory://{name}", strict=True, tile_format=tile_format)
    recording.save(str(tmp_path), backend="numpy")
    for path, image in IMAGES.items():
        recording.log_image(path, image)
    recording.disconnect()
    for path, image in IMAGES.items():
        assert_identical(read(tmp_path).latest_at(path).source(), image)


@pytest.mark.parametrize("meter", [1000.0, 1.0, 0.1, 3.14159e20, 1e-30, 1e30])
def test_source_gives_every_depth_image_back_exactly(tmp_path, log, meter):
    for path, depth in DEPTHS.items():
        log.log_depth_image(path, depth, meter=meter)
    log.flush()
    for path, depth in DEPTHS.items():
        assert_identical(read(tmp_path).latest_at(path).source(), depth)


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_source_gives_every_segmentation_back_exactly(tmp_path, name, compression):
    recording = lt.new_recording("app", "run", sink=f"memory://{name}", strict=True, compression=compression)
    recording.save(str(tmp_path), backend="numpy")
    for path, ids in IDS.items():
        recording.log_segmentation_image(path, ids)
    recording.disconnect()
    for path, ids in IDS.items():
        frame = read(tmp_path).latest_at(path)
        assert_identical(frame.source(), ids)
        np.testing.assert_array_equal(frame.ids(), ids.reshape(ids.shape[:2]))


def test_source_gives_points_back_as_they_were_given(tmp_path, log):
    positions = RNG.standard_normal((70_000, 3)) * 1e6
    positions[5] = np.nan
    labels = ["a", None, "ü", ""] * 17_500
    ids = np.arange(70_000, dtype=np.uint64) * 2**40
    log.log_points("cloud", positions, colors=[1, 2, 3], labels=labels, identifiers=ids, radii=np.float16(0.5))
    log.flush()
    frame = read(tmp_path).latest_at("cloud")
    source = frame.source()
    assert source.keys() == {"positions", "colors", "labels", "identifiers", "radii"}
    assert_identical(source["positions"], positions)
    assert_identical(source["identifiers"], ids)
    assert source["labels"] == labels
    points = frame.points()
    assert_identical(points.positions, positions)
    assert points.labels == points.display_labels == labels
    assert points.colors.tolist() == [[1, 2, 3, 255]] * 70_000
    assert points.radii.tolist() == [0.5] * 70_000
    np.testing.assert_array_equal(points.identifiers, ids)
    assert points.class_ids is None
    assert points.keypoint_ids is None
    assert sum(count for _, count in frame.levels) == 70_000


def test_what_was_not_kept_is_not_made_up(tmp_path, name):
    recording = lt.new_recording("app", "run", sink=f"memory://{name}", strict=True, keep_source=False)
    recording.save(str(tmp_path), backend="numpy")
    recording.log_image("float", PICTURE / 255)
    recording.log_image("exact", PICTURE)
    positions = RNG.random((100, 2))
    recording.log_points("cloud", positions)
    recording.disconnect()
    reader = read(tmp_path)
    for path in ("float", "cloud"):
        with pytest.raises(SourceNotKeptError, match="keep_source=False"):
            reader.latest_at(path).source()
    assert_identical(reader.latest_at("exact").source(), PICTURE)
    np.testing.assert_allclose(reader.latest_at("cloud").points().positions, positions, atol=1e-7)


def test_a_tile_is_a_view_of_the_mapped_file(tmp_path, log):
    log.log_image("picture", PICTURE)
    log.flush()
    frame = read(tmp_path).latest_at("picture")
    tile = frame.tile(level=0, x=2, y=1)
    assert tile.shape == (256, 188, 4)
    assert tile.dtype == np.float16
    assert not tile.flags.writeable
    assert np.shares_memory(tile, frame.tile(level=0, x=2, y=1))
    np.testing.assert_array_equal(tile, frame.image()[256:512, 512:])
    if sys.platform == "linux":
        address = tile.__array_interface__["data"][0]
        with open("/proc/self/maps") as maps:  # noqa: PTH123
            (mapped,) = [
                line for line in maps if int(line.split("-")[0], 16) <= address < int(line.split("-")[1].split()[0], 16)
            ]
        assert f"{tmp_path}/run/tiles/" in mapped


def test_a_frame_says_what_was_logged(tmp_path, log):
    log.set_time_sequence("frame", 7)
    log.log_image("picture", PICTURE, draw_order=3.5, ext={"camera": "left"})
    log.log_depth_image("depth", DEPTHS["uint16"])
    log.log_points("cloud", np.zeros((5, 2)))
    log.log_extension_components("picture", {"exposure": 0.5})
    log.log_cleared("depth", recursive=True)
    log.flush()
    reader = read(tmp_path)
    picture = reader.latest_at("picture", frame=7)
    assert (picture.kind, picture.entity_path, picture.shape) == ("image", "picture", (600, 700, 3))
    assert (picture.dtype, picture.format) == (np.dtype(np.uint8), "rgba16float")
    assert picture.levels == ((600, 700), (300, 350), (150, 175))
    assert (picture.draw_order, picture.ext, picture.error, picture.timeless) == (3.5, {"camera": "left"}, None, False)
    assert picture.times["frame"] == 7
    cloud = reader.latest_at("cloud")
    assert (cloud.shape, cloud.draw_order, cloud.levels) == ((5, 2), 30.0, ((1, 5),))
    depth, clear = reader.frames("depth")
    assert (depth.meter, depth.draw_order, depth.format) == (1000.0, -10.0, "r32float")
    assert clear.source() == {"recursive": True}
    assert reader.latest_at("depth") is None
    assert [frame.kind for frame in reader.frames("picture")] == ["image", "ext"]
    assert reader.frames("picture")[1].source() == {"exposure": 0.5}
    assert reader.entities() == ["cloud", "depth", "picture"]
    assert reader.frames_table()["entity_path"].to_pylist() == ["picture", "depth", "cloud", "picture", "depth"]


def test_levels_for_eyes(tmp_path, log):
    log.log_image("picture", PICTURE)
    log.log_image("glass", np.array([[[255, 0, 0, 128], [9, 9, 9, 0]]], np.uint8))
    log.log_depth_image("depth", np.array([[0.0, 1.0], [2.0, 3.0]], np.float32))
    log.flush()
    reader = read(tmp_path)
    eyes = reader.latest_at("picture").to_rgba8()
    np.testing.assert_array_equal(eyes[..., :3], PICTURE)
    assert (eyes[..., 3] == 255).all()
    assert reader.latest_at("picture").to_rgba8(level=2).shape == (150, 175, 4)
    assert reader.latest_at("glass").to_rgba8().tolist() == [[[255, 0, 0, 128], [0, 0, 0, 0]]]
    depth = reader.latest_at("depth").to_rgba8()
    assert depth[..., 3].tolist() == [[0, 255], [255, 255]]
    assert len({tuple(color) for color in depth.reshape(-1, 4).tolist()}) == 4


@pytest.mark.parametrize("level", [0, 1])
def test_the_picture_of_a_tile_is_that_part_of_its_levels_picture(tmp_path, log, level):
    depth = np.random.default_rng(0).uniform(-1, 5, PICTURE.shape[:2])
    log.log_image("picture", PICTURE)
    log.log_depth_image("depth", depth)
    log.log_segmentation_image("ids", PICTURE[..., 0])
    log.flush()
    reader = read(tmp_path)
    for path in ("picture", "depth", "ids"):
        frame = reader.latest_at(path)
        whole = frame.to_rgba8(level)
        np.testing.assert_array_equal(frame.to_rgba8(level, tile=(1, 0)), whole[:256, 256:512])
        with pytest.raises(NotFoundError):
            frame.to_rgba8(level, tile=(9, 9))


def test_colors_follow_the_context_that_holds_when_it_is_read(tmp_path, log):
    ids = np.array([[0, 1], [2, 1]], np.uint8)
    log.set_time_sequence("frame", 1)
    log.log_segmentation_image("scene/classes", ids)
    log.log_points("scene/cloud", np.zeros((2, 3)), class_ids=[1, 2], keypoint_ids=[7, 7], labels=[None, "mine"])
    log.set_time_sequence("frame", 5)
    red, green = (255, 0, 0, 255), (0, 255, 0, 255)
    described = lt.ClassDescription(lt.AnnotationInfo(1, "car", red), keypoint_annotations=[(7, "wheel", green)])
    log.log_annotation_context("scene", [described], timeless=False)
    log.flush()
    reader = read(tmp_path)
    before, after = (reader.latest_at("scene/classes", frame=frame) for frame in (4, 5))
    assert before.key == after.key
    automatic = before.colors()
    assert automatic[0, 0].tolist() == [0, 0, 0, 0]
    assert automatic[0, 1].tolist() == [0x4D, 0x7B, 0xBC, 255]
    assert after.colors()[0, 1].tolist() == list(red)
    assert after.colors()[1, 0].tolist() == automatic[1, 0].tolist()
    cloud = reader.latest_at("scene/cloud", frame=5).points()
    assert cloud.colors[0].tolist() == list(green)
    assert cloud.labels == [None, "mine"]
    assert cloud.display_labels == ["wheel", "mine"]
    assert reader.latest_at("scene/cloud", frame=4).points().display_labels == [None, "mine"]
    assert before.annotation_context().classes == {}
    assert after.annotation_context().classes[1].info.label == "car"


def test_the_nearest_context_holds_whole(tmp_path, log):
    log.log_annotation_context("/", [(1, "root one", (1, 1, 1)), (2, "root two", (2, 2, 2))])
    log.log_annotation_context("scene", [(1, "scene one", (9, 9, 9))])
    log.log_segmentation_image("scene/classes", np.array([[1, 2]], np.uint8))
    log.log_segmentation_image("other", np.array([[1, 2]], np.uint8))
    log.flush()
    reader = read(tmp_path)
    assert reader.latest_at("other").colors().tolist() == [[[1, 1, 1, 255], [2, 2, 2, 255]]]
    scene = reader.latest_at("scene/classes").colors()
    assert scene[0, 0].tolist() == [9, 9, 9, 255]
    assert scene[0, 1].tolist() == [0x9A, 0xBC, 0x4D, 255]  # not the root's: contexts don't merge
    assert reader.entities() == ["", "other", "scene", "scene/classes"]
    assert [frame.kind for entity in reader.entities() for frame in reader.frames(entity)] == [
        "annotation_context",
        "segmentation",
        "annotation_context",
        "segmentation",
    ]


def test_what_is_not_there_is_named(tmp_path, log):
    log.log_image("picture", PICTURE)
    log.log_points("cloud", np.zeros((5, 2)))
    log.flush()
    picture, cloud = (read(tmp_path).latest_at(path) for path in ("picture", "cloud"))
    for wrong in ({"level": 3}, {"level": -1}, {"x": 3}, {"y": -1}):
        with pytest.raises(NotFoundError, match="no tile level="):
            picture.tile(**wrong)
    for level in (3, -1):
        with pytest.raises(NotFoundError, match=f"level must be 0 to 2, not {level}"):
            picture.image(level)
    with pytest.raises(NotFoundError, match="plane 'ids'"):
        picture.tile(plane="ids")
    with pytest.raises(InvalidTypeError, match="must be of kind 'depth' for this, not 'image'"):
        picture.depth()
    with pytest.raises(InvalidTypeError, match="must be an image, depth or segmentation for this, not 'points'"):
        cloud.to_rgba8()
    assert cloud.tile().shape == (5, 2)
    with pytest.raises(NotFoundError, match="plane 'source_index'"):
        cloud.tile(plane="source_index")  # a small cloud is stored in the order in which it was logged


def test_recordings_are_listed_and_found(tmp_path):
    with pytest.raises(StoreFormatError, match="must be a directory"):
        open_store(tmp_path / "nowhere")
    with pytest.raises(InvalidValueError, match="must be a path or a URL of file://, az://, gs://, s3://, not 'ftp"):
        open_store("ftp://host/runs")
    store = open_store(f"file://{tmp_path}")
    assert store.recordings() == []
    for recording_id in ("b/ä", "a"):
        target = writer(tmp_path, recording_id, f"app of {recording_id}")
        target.append(row(0), [])
        target.close()
    (tmp_path / "notes.txt").write_text("not a recording")
    (tmp_path / "folder").mkdir()
    infos = store.recordings()
    assert [(info.recording_id, info.application_id) for info in infos] == [("a", "app of a"), ("b/ä", "app of b/ä")]
    assert all(info.segments == 1 for info in infos)
    assert sum(info.nbytes for info in infos) == sum(path.stat().st_size for path in tmp_path.rglob("*.arrow"))
    assert abs(infos[0].created / 1e9 - time.time()) < 60
    assert len(store.recording("b/ä")) == 1
    with pytest.raises(NotFoundError, match="must have one recording"):
        store.recording()
    with pytest.raises(NotFoundError, match="no recording 'c'"):
        store.recording("c")


@pytest.mark.parametrize("batches", [1, 2, 32])
def test_refresh_and_follow_see_what_is_committed(tmp_path, monkeypatch, batches):
    monkeypatch.setattr(recording_reader, "BATCHES", batches)
    target = writer(tmp_path)
    reader = read(tmp_path)
    assert reader.latest_at("a") is None
    target.append(row(0), [])
    assert reader.refresh() == 0
    target.commit()
    assert reader.refresh() == 1
    assert reader.application_id == "app"
    assert reader.latest_at("a", frame=9).key[1] == 0

    followed = []
    follower = threading.Thread(target=lambda: followed.extend(reader.follow(poll=0.01, timeout=1.0)))
    follower.start()
    for seq in range(1, 40):
        target.append(row(seq), [])
        if seq % 2:
            target.commit()
        if seq % 5 == 0:
            reader.refresh()  # somebody else's refresh takes nothing away from a follower
    target.close()
    follower.join()
    assert [frame.key[1] for frame in followed] == list(range(1, 40))
    assert reader.latest_at("a").key[1] == 39
    assert [frame.key[1] for frame in reader.frames("a")] == list(range(40))
    assert [reader.latest_at("a", frame=seq).times["frame"] for seq in range(40)] == list(range(40))


def test_what_another_threads_refresh_is_about_to_show_is_followed(tmp_path, monkeypatch):
    target = writer(tmp_path)
    target.append(row(0), [])
    target.commit()
    reader = read(tmp_path)
    target.append(row(1), [])
    target.commit()
    real, following = recording_reader.Rows.of, []

    def of(*args):
        monkeypatch.undo()
        assert len(reader) == 1
        following.append(reader.follow(poll=0, timeout=0))
        return real(*args)

    monkeypatch.setattr(recording_reader.Rows, "of", of)
    assert reader.refresh() == 1
    assert [frame.key[1] for frame in following[0]] == [1]
    target.close()


def test_a_refresh_that_fails_is_made_good_by_the_next(tmp_path, monkeypatch):
    target = writer(tmp_path)
    target.append(row(0), [])
    target.commit()
    reader = read(tmp_path)
    target.append(row(1), [])
    target.close()

    def short(*_, **__):
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(recording_reader.RowBatch, "of", short)
        with pytest.raises(MemoryError):
            reader.refresh()
    assert len(reader) == 1
    assert reader.refresh() == 1
    assert [frame.key[1] for frame in reader.frames("a")] == [0, 1]


def test_entities_may_be_asked_for_while_another_thread_refreshes(tmp_path, monkeypatch):
    class RefreshingCodes(recording_reader.Codes):
        def items(self):
            for item in super().items():
                reader.refresh()
                yield item

    monkeypatch.setattr(recording_reader, "Codes", RefreshingCodes)
    target = writer(tmp_path)
    target.append(row(0, entity_path="a"), [])
    target.append(row(1, entity_path="b"), [])
    target.commit()
    reader = read(tmp_path)
    target.append(row(2, entity_path="c"), [])
    target.close()
    assert reader.entities() == ["a", "b"]
    reader.refresh()
    assert reader.entities() == ["a", "b", "c"]


class Found:
    """A tiles file of one frame with tiles of one byte, which lie at `starts`; `gone`: it is not there any more."""

    path = "tiles"
    payload_reader = property(lambda self: self)

    def __init__(self, content, starts, *, gone=False):
        self.content, self.starts, self.gone = content, starts, gone

    def rows_of_frame(self, frame):
        index = np.zeros(len(self.starts), INDEX_ROW)
        for name in ("level", "y", "width", "height", "row_pitch", "raw_size", "crc32c"):
            index[name] = 1
        index["plane"], index["codec"], index["x"] = b"pixels", b"raw", np.arange(len(index))
        yield index, self.starts

    def payloads(self, where):
        if self.gone:
            raise FileNotFoundError
        return [np.frombuffer(self.content[start : start + 1], np.uint8) for start in where]


def test_a_thread_that_finds_a_moved_frame_again_takes_nothing_away_from_others():
    before, after = Found(b"abxy", [0, 1]), Found(b"__ab", [2, 3])
    tiles = FrameTiles(find_tiles(before, 0, 2), lambda: find_tiles(after, 0, 2))

    def asked():
        first, second = (tile for _, tile in tiles.rows("pixels"))
        yield first
        before.gone = True
        assert bytes(tiles.decoded(second)) == b"b"
        before.gone = False  # the end of an object stays in memory
        yield second

    assert b"".join(tiles._payloads(asked())) == b"ab"


def test_several_writers_share_a_recording(tmp_path):
    targets = [writer(tmp_path) for _ in range(3)]
    for n, target in enumerate(targets):
        for seq in range(5):
            target.append(row(seq, producer=bytes([n]) * 16, log_time=seq * 10 + n), [])
            target.commit()
    for target in targets:
        target.close()
    keys = [frame.key for frame in read(tmp_path).frames("a")]
    assert keys == [(bytes([n]) * 16, seq) for seq in range(5) for n in range(3)]


def test_of_a_value_that_was_stored_twice_one_copy_is_shown(tmp_path):
    first, second = writer(tmp_path), writer(tmp_path)
    first.append(row(0, ext='{"copy": "first"}'), [])
    second.append(row(0, ext='{"copy": "second"}'), [])
    second.append(row(1), [])
    second.commit()
    reader = read(tmp_path)
    assert [frame.ext for frame in reader.frames("a")] == [{"copy": "second"}, None]
    first.commit()  # the lower name, later
    assert reader.refresh() == 0
    assert [frame.ext for frame in reader.frames("a")] == [{"copy": "first"}, None]
    assert [frame.ext for frame in read(tmp_path).frames("a")] == [{"copy": "first"}, None]
    first.close()
    second.close()


def test_gaps_are_no_frames(tmp_path):
    target = writer(tmp_path)
    target.append(row(0), [])
    target.append(row(1, kind="gap", entity_path="", seq_last=5, body="queue full"), [])
    target.close()
    reader = read(tmp_path)
    assert len(reader) == 1
    assert reader.entities() == ["a"]
    assert len(reader.frames_table()) == 2
    assert [frame.key[1] for frame in reader.follow(poll=0, timeout=0)] == []


def test_a_tiles_file_that_lies_is_an_error_and_no_crash(tmp_path, log):
    log.log_image("picture", PICTURE[:300, :300])
    log.flush()
    (path,) = (tmp_path / "run" / "tiles").iterdir()
    whole = path.read_bytes()
    lies = 0
    for where in range(0, len(whole) - 1, len(whole) // 300):
        for size in (1, 8):
            path.unlink()
            path.write_bytes(whole[:where] + b"\xff" * size + whole[where + size :])
            frame = read(tmp_path).latest_at("picture")
            try:
                frame.tile(), frame.image(), frame.source()
            except (CorruptStoreError, NotFoundError):
                lies += 1
    path.unlink()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptStoreError):
        read(tmp_path).latest_at("picture").tile()


def test_a_checked_frame_notices_a_byte_of_what_it_reads_and_of_nothing_else(tmp_path, log):
    log.log_image("kept", PICTURE[:300, :300].astype(np.float32) / 255)  # level 0 and a source plane
    log.log_image("tiles", PICTURE[:300, :300])
    log.flush()
    (path,) = (tmp_path / "run" / "tiles").iterdir()
    whole = path.read_bytes()
    for entity, planes in (("kept", ("source",)), ("tiles", ("pixels",))):
        frame = read(tmp_path).latest_at(entity)
        expected = frame.checked().source()
        np.testing.assert_array_equal(expected, frame.source())
        for plane in ("pixels", "source") if entity == "kept" else ("pixels",):
            stored = frame._tiles.decoded(frame._tiles.stored((plane, 0, 0, 0)))
            at = whole.index(stored[:4096].tobytes()) + 2000
            path.unlink()  # what is mapped stays as it is
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            broken = read(tmp_path).latest_at(entity)
            broken.source()
            if plane in planes:
                with pytest.raises(CorruptStoreError, match="other bytes than were written"):
                    broken.checked().source()
            else:
                np.testing.assert_array_equal(broken.checked().source(), expected)
            path.unlink()
            path.write_bytes(whole)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Stores of 10^4 and 10^5 rows."""
    stores = {}
    for count in (10_000, 100_000):
        stores[count] = tmp_path_factory.mktemp("many")
        target = writer(stores[count])
        for seq in range(count):
            target.append(row(seq, entity_path=f"camera/{seq % 10}", sequences={"frame": seq // 10}), ())
            if seq % 5000 == 4999:
                target.commit()
        target.close()
    return stores


def best_of(times, call):
    """Least seconds of several calls."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


@pytest.mark.alone
def test_opening_grows_no_faster_than_linearly(many):
    few, lots = (best_of(5, lambda store=store: read(store)) for store in many.values())
    assert lots / few < 10 * 2  # ten times the rows; twice is what a busy machine may add


@pytest.mark.alone
def test_a_query_among_100_000_frames_takes_less_than_a_millisecond(many):
    reader = read(many[100_000])
    first = best_of(1, lambda: reader.latest_at("camera/3", frame=5000))
    assert first < 1.0
    seconds = [best_of(1, lambda frame=frame: reader.latest_at("camera/3", frame=frame)) for frame in range(200)]
    assert statistics.median(seconds) < 1e-3


def test_a_tile_is_a_view_of_the_mapped_file_and_takes_few_calls(tmp_path, log):
    """The work is counted, since a busy machine falsifies time; benchmarks/reading.py has the microseconds."""
    log.log_image("picture", PICTURE)
    log.flush()
    frame = read(tmp_path).latest_at("picture")
    places = [{"x": x, "y": y} for y in range(3) for x in range(3)]
    copies = [frame.tile(**place).copy() for place in places]
    shutil.rmtree(tmp_path / "run")  # nothing is opened any more
    calls = []
    tracemalloc.start()
    try:
        sys.setprofile(lambda _, event, __: calls.append(event) if event.endswith("call") else None)
        tiles = [frame.tile(**place) for place in places]
    finally:
        sys.setprofile(None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    for tile, copy in zip(tiles, copies, strict=True):
        np.testing.assert_array_equal(tile, copy)
        assert not tile.flags.owndata
        assert not tile.flags.writeable
    assert len(calls) / len(tiles) < 40
    assert peak < 40_000, "no tile is copied or decoded: one of 256 x 256 has 524,288 bytes"


def test_a_reader_keeps_no_more_files_open_than_it_needs(tmp_path, log, monkeypatch):
    monkeypatch.setattr("lumatile.write.merge.FAN_IN", 1000)
    resource = pytest.importorskip("resource")
    for value in range(40):
        log.log_image("picture", np.full((2, 2), value, np.uint8))
        log.flush()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reader = read(tmp_path)
    opened = len(os.listdir("/dev/fd"))  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 20, hard))
    try:
        frames = reader.frames("picture")
        assert [int(frame.source()[0, 0]) for frame in frames] == list(range(40))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_many_open_files_are_not_taken_for_damage(tmp_path, log):
    resource = pytest.importorskip("resource")
    log.log_image("picture", np.zeros((2, 2), np.uint8))
    log.flush()
    frame = read(tmp_path).latest_at("picture")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        for use in (frame.source, lambda: read(tmp_path)):
            with pytest.raises(OSError, match="Too many open files") as caught:
                use()
            assert not isinstance(caught.value, CorruptStoreError)
        with pytest.raises(StoreError, match="Too many open files"):
            frame.source()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert frame.source().shape == (2, 2)
