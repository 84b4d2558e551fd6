"""`lumatile export --format parquet`: recordings as Parquet, read by other tools, and ingested again."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tests.support.export_samples import (
    equal,
    log_hugging_face,
    log_pictures,
    pillow,
)
from tests.support.shards import CAT, IDS, MILLIMETRES

import lumatile as lt
from lumatile_service.batch import ingest
from lumatile_service.export import export, parquet
from lumatile_service.export.extension_columns import ExtensionColumns


def test_parquet_is_as_datasets_writes_it(tmp_path, log):
    log_hugging_face(log)
    exported = export(tmp_path / "runs", "run-1", tmp_path / "out", format="parquet")
    assert (exported.frames, exported.errors) == (5, 0)
    assert exported.left_out == {"there is no place for values of kind 'points'": 1}
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == "train-00000-of-00001.parquet"
    assert exported.bytes_out == path.stat().st_size
    table = pq.read_table(path)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.column_names
    assert features["image"] == {"_type": "Image"}
    assert table.schema.field("image").type == pa.struct({"bytes": pa.binary(), "path": pa.string()})
    assert features["times"]["time"] == {"dtype": "timestamp[ns]", "_type": "Value"}
    assert features["meter"] == {"dtype": "float64", "_type": "Value"}
    assert features["label"] == {"dtype": "int64", "_type": "Value"}
    depth, ids, *photos = table.to_pylist()
    assert [row["image"]["bytes"] for row in photos] == [CAT] * 3
    assert [row["image"]["path"] for row in photos] == [f"photos/frame_{i:06d}.jpg" for i in range(3)]
    assert [row["label"] for row in photos] == [3, 4, None]
    assert [row["caption"] for row in photos] == ["a cat", None, None]
    assert [row["box"] for row in photos] == ["[1, 2.5]", None, None]
    assert [row["times"]["frame"] for row in photos] == [0, 1, 2]
    assert photos[0]["times"]["time"] is None
    assert depth["times"]["time"].value == 1_700_000_000_123_456_789
    assert (depth["entity_path"], depth["kind"], depth["meter"]) == ("depth", "depth", 5000)
    np.testing.assert_array_equal(pillow(io.BytesIO(depth["image"]["bytes"])), MILLIMETRES)
    np.testing.assert_array_equal(pillow(io.BytesIO(ids["image"]["bytes"])), IDS)
    assert json.loads(ids["classes"]) == [{"id": 1, "label": "coin", "color": [200, 100, 0, 255]}]


def test_parquet_ingested_again_gives_equal_pixels_and_labels(tmp_path, log):
    logged = log_pictures(log)
    log_hugging_face(log)
    exported = export(tmp_path / "runs", "run-1", tmp_path / "out", format="parquet")
    summary = ingest(tmp_path / "out", tmp_path / "again")
    assert (summary.format, summary.logged, summary.errors) == ("parquet", exported.frames, {})
    by_entity = {}
    for frame in sorted(lt.open_store(tmp_path / "again").recording().frames("image"), key=lambda f: f.times["row"]):
        by_entity.setdefault(frame.ext["entity_path"], []).append(frame)
    for entity, values in logged.items():
        assert all(equal(frame.source(), value) for frame, value in zip(by_entity[entity], values, strict=True))
    assert by_entity["photos"][0].ext["caption"] == "a cat"
    assert by_entity["depth"][0].ext["meter"] == 5000


def test_shards_and_row_groups_are_bounded(tmp_path, log, monkeypatch):
    log_pictures(log)
    monkeypatch.setattr(parquet, "GROUP_BYTES", 700_000)
    monkeypatch.setattr(parquet, "SHARD_BYTES", 1_500_000)
    export(tmp_path / "runs", "run-1", tmp_path / "out", format="parquet")
    paths = sorted((tmp_path / "out").iterdir())
    assert len(paths) > 1
    assert [path.name for path in paths] == [f"train-{i:05d}-of-{len(paths):05d}.parquet" for i in range(len(paths))]
    assert all(path.stat().st_size < 1_600_000 for path in paths)
    rows = 0
    for path in paths:
        with pq.ParquetFile(path) as file:
            rows += file.metadata.num_rows
            for i in range(file.metadata.num_row_groups):
                group = file.read_row_group(i, ["image"])["image"].to_pylist()
                assert len(group) == 1 or sum(len(row["bytes"]) for row in group) <= 700_000
    assert rows == 30
    monkeypatch.undo()
    monkeypatch.setattr(parquet, "GROUP_ROWS", 4)
    export(tmp_path / "runs", "run-1", tmp_path / "few", format="parquet", entities=["camera/gray", "camera/ids"])
    (path,) = (tmp_path / "few").iterdir()
    groups = pq.read_metadata(path)
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [4, 2]


def test_extension_components_become_columns_of_their_types():
    columns = ExtensionColumns(
        [
            {"label": 1, "score": 1, "kind": "x", "mixed": 1, "huge": 2**64, "half": "\ud800"},
            {"label": None, "score": 0.5, "ext_kind": True, "mixed": "a", "deep": {"a": [1]}},
            None,
        ],
        reserved=["kind"],
    )
    assert columns.types == {
        "deep": pa.string(),
        "ext_kind": pa.bool_(),
        "half": pa.string(),
        "huge": pa.string(),
        "ext_ext_kind": pa.string(),
        "label": pa.int64(),
        "mixed": pa.string(),
        "score": pa.float64(),
    }
    assert columns.row({"kind": "x", "mixed": 1, "huge": 2**64, "half": "\ud800"}) == {
        "ext_ext_kind": "x",
        "mixed": "1",
        "huge": str(2**64),
        "half": "?",
    }
    assert columns.row({"deep": {"a": [1]}, "label": None}) == {"deep": '{"a": [1]}', "label": None}
    assert columns.row(None) == {}
    many = ExtensionColumns([{str(i): i} for i in range(65)], reserved=[])
    assert many.types == {"ext": pa.string()}
    assert many.row({"7": 7}) == {"ext": '{"7": 7}'}
