"""Other tools read a store's files with no code of ours."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import lumatile as lt

PITCH = 256


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three images, a depth image and a cloud."""
    path = tmp_path_factory.mktemp("interop") / "store"
    recording = lt.new_recording("tests", "run", sink="memory://interop", strict=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lumatile.write.writer.SEGMENT_SECONDS", 600.0)  # one segment on a slow machine too
        recording.save(str(path), backend="numpy")
    for step in range(3):
        recording.set_time_sequence("step", step)
        recording.log_image("camera", np.full((300, 400, 3), 40 * step, np.uint8), ext={"step": step})
    recording.log_depth_image("depth", np.arange(300 * 20, dtype=np.uint16).reshape(300, 20), meter=1000)
    recording.log_points("cloud", np.eye(3), labels=["x", None, "z"])
    recording.flush()
    recording.disconnect()
    return path


def one(store, kind) -> Path:
    (path,) = (store / "run" / kind).iterdir()
    return path


def test_duckdb_queries_frames_and_tiles(store):
    duckdb = pytest.importorskip("duckdb")
    frames = pa.ipc.open_file(pa.memory_map(str(one(store, "frames")))).read_all()
    tiles = pa.ipc.open_file(pa.memory_map(str(one(store, "tiles")))).read_all()
    with duckdb.connect() as db:
        db.register("frames", frames)
        db.register("tiles", tiles)
        counted = db.sql("select kind, count(*) from frames group by kind order by kind").fetchall()
        assert counted == [("depth", 1), ("image", 3), ("points", 1)]
        steps = db.sql("select sequences['step'] from frames where entity_path = 'camera' order by log_time").fetchall()
        assert np.ravel(steps).tolist() == [0, 1, 2]
        pyramid = db.sql(
            """
            select t.level, count(*), sum(octet_length(t.payload))
            from tiles t join (select *, row_number() over () - 1 as number from frames) f on t.frame = f.number
            where f.entity_path = 'depth' and t.plane = 'pixels' group by t.level order by t.level
            """
        ).fetchall()
        assert pyramid == [(0, 2, 300 * PITCH), (1, 1, 150 * PITCH)]
        (limits,) = db.sql("select min(value_min), max(value_max) from tiles where frame = 3").fetchall()
        assert limits == pytest.approx((0.001, 5.999))


def test_polars_scans_frames_and_tiles(store):
    pl = pytest.importorskip("polars")
    frames = pl.scan_ipc(one(store, "frames")).filter(pl.col("entity_path") == "camera").sort("log_time").collect()
    assert frames["shape"].to_list() == [[300, 400, 3]] * 3
    assert frames["ext"].str.json_path_match("$.step").to_list() == ["0", "1", "2"]
    tiles = pl.scan_ipc(one(store, "tiles"))
    levels = (
        tiles.filter((pl.col("plane") == "pixels") & (pl.col("frame") == 1))
        .group_by("level")
        .agg(pl.len(), pl.col("width").sum())
        .sort("level")
    )
    assert levels.collect().rows() == [(0, 4, 800), (1, 1, 200)]
    (payload,) = (
        tiles.filter((pl.col("plane") == "pixels") & (pl.col("frame") == 3) & (pl.col("level") == 1))
        .select("payload")
        .collect()["payload"]
    )
    metres = np.frombuffer(payload, "<f4").reshape(150, PITCH // 4)[:, :10]
    assert metres[0, 0] == np.float32(0.020)  # of 0 (invalid), 1, 20 and 21 mm: the median of the valid
    assert metres[1, 1] == np.float32(0.043)  # of 42, 43, 62 and 63: the lower median


def test_pandas_reads_both(store):
    pd = pytest.importorskip("pandas")
    tiles = pa.ipc.open_file(one(store, "tiles")).read_all().drop_columns("payload").to_pandas()
    assert isinstance(tiles, pd.DataFrame)
    assert set(tiles["plane"]) >= {"pixels", "position", "label", "source"}
    assert len(pa.ipc.open_file(one(store, "frames")).read_all().to_pandas()) == 5


@pytest.mark.parametrize("count", [3, 5000])
def test_a_cloud_can_be_put_together_from_the_format_document_alone(tmp_path, count):
    positions, labels = np.random.default_rng(0).random((count, 3)), ["x", None, "z", *["more"] * (count - 3)]
    recording = lt.new_recording("app", "run", sink=str(tmp_path), strict=True)
    recording.log_points("cloud", positions, labels=labels)
    recording.disconnect()
    (row,) = pa.ipc.open_file(one(tmp_path, "frames")).read_all().to_pylist()
    planes = {}
    for tile in pa.ipc.open_file(one(tmp_path, "tiles")).read_all().to_pylist():
        planes.setdefault(tile["plane"], []).append(tile)
    joined = {plane: b"".join(tile["payload"] for tile in tiles) for plane, tiles in planes.items()}
    assert ("source_index" in planes) == (count == 5000)
    order = np.frombuffer(joined["source_index"], "<u4") if "source_index" in planes else np.arange(count)
    stored = np.frombuffer(joined["position"], "<f4").reshape(count, 3)
    np.testing.assert_allclose(row["point_origin"] + stored, positions[order], atol=1e-6)
    read = []
    for tile in planes["label"]:
        n, data = tile["width"], tile["payload"]
        offsets, present, text = np.frombuffer(data[: 4 * n + 4], "<u4"), data[4 * n + 4 : 5 * n + 4], data[5 * n + 4 :]
        read += [text[offsets[i] : offsets[i + 1]].decode() if present[i] else None for i in range(n)]
    assert read == [labels[i] for i in order]
    line, _, data = joined["source"].partition(b"\n")
    assert json.loads(line) == {
        "positions": {"dtype": "float64", "shape": [count, 3]},
        "labels": {"value": labels},
    }
    assert (len(line) + 1) % 8 == 0
    np.testing.assert_array_equal(np.frombuffer(data, "<f8").reshape(count, 3), positions)
