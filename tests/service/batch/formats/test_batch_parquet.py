"""Parquet with image files in it, as `datasets` writes them and as others do."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from skimage import data
from sklearn.datasets import load_sample_images
from tests.support.shards import encoded

import lumatile as lt
from lumatile.errors import InvalidValueError
from lumatile.read.verify import verify
from lumatile_service.batch import ingest
from lumatile_service.batch.formats import find_reader, parquet
from lumatile_service.batch.plan import plan
from lumatile_service.batch.source_files import SourceFiles

STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


CHINA, FLOWER = load_sample_images().images
CAT = encoded(data.cat(), "jpeg")
PHOTOS = [encoded(CHINA, "jpeg"), encoded(FLOWER, "jpeg"), encoded(data.astronaut(), "png"), CAT]


def write(path, columns, features=None, **options):
    """A table, with the metadata that `datasets` adds."""
    table = pa.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(table, path, **options)


def images(contents, paths=None):
    paths = paths or [None] * len(contents)
    rows = [None if c is None and p is None else {"bytes": c, "path": p} for c, p in zip(contents, paths, strict=True)]
    return pa.array(rows, STRUCT)


FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": ["scene", "cat"], "_type": "ClassLabel"},
    "caption": {"dtype": "string", "_type": "Value"},
}


@pytest.fixture
def dataset(tmp_path):
    """Two files of a split, in row groups of two."""
    root = tmp_path / "photos"
    labels = [0, 0, -1, 1]
    captions = ["a temple", "a flower", None, "a cat"]
    for number, rows in enumerate((slice(0, 3), slice(3, 4))):
        write(
            root / f"train-{number:05d}-of-00002.parquet",
            {"image": images(PHOTOS[rows]), "label": pa.array(labels[rows]), "caption": captions[rows]},
            FEATURES,
            row_group_size=2,
        )
    (root / "README.md").write_text("# photos\n")
    return root


def frames_by_row(store, summary, entity="image"):
    frames = lt.open_store(store).recording(summary.recording_id).frames(entity)
    found = {frame.times["row"]: frame for frame in frames}
    assert len(found) == len(frames)
    return found


def test_images_and_labels_of_a_hugging_face_dataset(tmp_path, dataset):
    summary = ingest(dataset, tmp_path / "store")
    assert (summary.format, summary.values, summary.logged, summary.errors) == ("parquet", 4, 4, {})
    frames = frames_by_row(tmp_path / "store", summary)
    for row in (0, 1, 3):
        assert frames[row].source() == PHOTOS[row], "a JPEG is kept as it is"
    np.testing.assert_array_equal(frames[2].source(), data.astronaut())
    assert frames[1].ext == {"label": 0, "label_name": "scene", "caption": "a flower"}
    assert frames[2].ext == {"label": -1, "caption": None}, "-1 is no label"
    assert frames[3].ext == {"label": 1, "label_name": "cat", "caption": "a cat"}
    assert frames[3].provenance["uri"] == (dataset / "train-00001-of-00002.parquet").as_uri()
    assert frames[3].provenance["member"] == "row=0,column=image"
    assert verify(tmp_path / "store").ok


def test_run_again_nothing_is_logged_and_a_changed_label_is_noticed(tmp_path, dataset):
    ingest(dataset, tmp_path / "store")
    again = ingest(dataset, tmp_path / "store")
    assert (again.values, again.logged, again.stored_before, again.bytes_out) == (4, 0, 4, 0)
    write(
        dataset / "train-00001-of-00002.parquet",
        {"image": images([CAT]), "label": pa.array([0]), "caption": ["a cat"]},
        FEATURES,
    )
    third = ingest(dataset, tmp_path / "store")
    assert (third.logged, third.stored_before, third.changed) == (1, 3, 1)
    recording = lt.open_store(tmp_path / "store").recording(third.recording_id)
    assert recording.latest_at("image", row=3).ext["label_name"] == "scene"


def test_a_file_alone_is_a_source(tmp_path, dataset):
    source = dataset / "train-00001-of-00002.parquet"
    summary = ingest(source, tmp_path / "store")
    assert (summary.format, summary.values, summary.errors) == ("parquet", 1, {})
    assert summary.recording_id.startswith("train-00001-of-00002-parquet-")
    (frame,) = frames_by_row(tmp_path / "store", summary).values()
    assert frame.source() == CAT
    assert frame.provenance["uri"] == source.as_uri()
    files = SourceFiles(source.as_uri())
    assert (files.name, files.sizes, files.uri(source.name)) == (
        source.name,
        {source.name: source.stat().st_size},
        source.as_uri(),
    )
    assert files.read(source.name) == source.read_bytes()
    (photo := tmp_path / "cat.jpg").write_bytes(CAT)
    assert ingest(photo, tmp_path / "store").format == "images"


def test_nulls_are_left_out_and_broken_images_are_error_rows(tmp_path):
    contents = [CAT, None, CAT[: len(CAT) // 2], b"no image", b"", PHOTOS[1]]
    write(tmp_path / "d" / "a.parquet", {"image": images(contents)}, {"image": {"_type": "Image"}})
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.values, sum(summary.errors.values())) == (5, 3)
    frames = frames_by_row(tmp_path / "store", summary)
    assert sorted(frames) == [0, 2, 3, 4, 5]
    assert {row for row, frame in frames.items() if frame.error} == {2, 3, 4}
    assert (frames[0].source(), frames[5].source()) == (CAT, PHOTOS[1])
    assert frames[0].ext is None
    again = ingest(tmp_path / "d", tmp_path / "store")
    assert (again.logged, again.stored_before) == (0, 5)


def test_a_row_that_is_a_path_is_read_from_the_source(tmp_path):
    root = tmp_path / "d"
    paths = ["cat.jpg", "images/flower.jpg", "gone.jpg", "../outside.jpg", "/etc/hostname", "own.jpg"]
    write(
        root / "data" / "a.parquet",
        {"image": images([None] * 5 + [PHOTOS[0]], paths)},
        {"image": {"_type": "Image"}},
    )
    (root / "images").mkdir()
    (root / "data" / "cat.jpg").write_bytes(CAT)
    (root / "images" / "flower.jpg").write_bytes(PHOTOS[1])
    (tmp_path / "outside.jpg").write_bytes(CAT)
    summary = ingest(root, tmp_path / "store", format="parquet")
    frames = frames_by_row(tmp_path / "store", summary, "data/image")
    assert [frames[row].error is None for row in range(6)] == [True, True, False, False, False, True]
    assert [frames[row].source() for row in (0, 1, 5)] == [CAT, PHOTOS[1], PHOTOS[0]]
    assert "'gone.jpg', which the source does not have" in frames[2].error
    assert frames[0].provenance["member"] == "row=0,column=image"


def test_columns_without_hugging_faces_metadata_are_known_by_their_values(tmp_path):
    write(
        tmp_path / "d" / "train" / "a.parquet",
        {
            "left": pa.array([None, CAT]),
            "right": pa.array([PHOTOS[0], PHOTOS[1]], pa.large_binary()),
            "photo": images([PHOTOS[2], None]),
            "sound": images([b"RIFF....WAVE", b"RIFF....WAVE"]),
            "embedding": pa.array([b"\1\2\3", b"\4\5\6"]),
            "score": [0.5, float("nan")],
            "good": [True, False],
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "boxes": [[1, 2], [3]],
        },
    )
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.format, summary.values, summary.errors) == ("parquet", 4, {})
    recording = lt.open_store(tmp_path / "store").recording(summary.recording_id)
    assert sorted(recording.entities()) == ["train/left", "train/photo", "train/right"]
    assert recording.latest_at("train/left", row=1).source() == CAT
    assert recording.latest_at("train/right", row=0).source() == PHOTOS[0]
    assert recording.latest_at("train/right", row=1).ext == {"score": "NaN", "good": False, "kind": "y"}
    np.testing.assert_array_equal(recording.latest_at("train/photo", row=0).source(), data.astronaut())


@pytest.mark.parametrize("kind", ["List", "Sequence"])
def test_lists_of_images(tmp_path, kind):
    rows = [[{"bytes": CAT, "path": None}, {"bytes": PHOTOS[0], "path": None}], [], None, [None]]
    features = {"pair": {"_type": kind, "feature": {"_type": "Image"}}, "ids": {"_type": kind, "feature": 3}}
    write(tmp_path / "d" / "a.parquet", {"pair": pa.array(rows, pa.list_(STRUCT)), "ids": [[1]] * 4}, features)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.values, summary.errors) == (2, {})
    recording = lt.open_store(tmp_path / "store").recording(summary.recording_id)
    frame = recording.latest_at("pair/1", row=0)
    assert frame.source() == PHOTOS[0]
    assert frame.provenance["member"] == "row=0,column=pair,item=1"


def test_what_the_metadata_calls_something_else_is_no_image(tmp_path):
    write(
        tmp_path / "d" / "a.parquet",
        {"audio": images([CAT]), "image": images([CAT])},
        {"audio": {"_type": "Audio"}, "image": {"_type": "Image"}},
    )
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert summary.values == 1
    assert list(frames_by_row(tmp_path / "store", summary)) == [0]


def test_a_broken_file_is_an_error_row_and_the_others_are_logged(tmp_path, dataset):
    first = dataset / "train-00000-of-00002.parquet"
    first.write_bytes(first.read_bytes()[:-100])
    summary = ingest(dataset, tmp_path / "store")
    assert summary.values == 2
    ((reason, count),) = summary.errors.items()
    assert count == 1
    assert "the Parquet file cannot be read" in reason
    assert summary.examples[reason] == first.as_uri()
    assert [frame.source() for frame in frames_by_row(tmp_path / "store", summary).values()] == [CAT]


def test_a_file_that_is_broken_in_one_place_gives_the_rest(tmp_path):
    source = tmp_path / "d" / "a.parquet"
    write(source, {"image": images(PHOTOS)}, {"image": {"_type": "Image"}}, row_group_size=1, compression="none")
    content = bytearray(source.read_bytes())
    at = pq.read_metadata(source).row_group(2).column(0).data_page_offset
    content[at : at + 64] = b"\xff" * 64
    source.write_bytes(content)
    write(tmp_path / "d" / "b.parquet", {"image": images([CAT])}, {"image": {"_type": "Image"}})
    summary = ingest(tmp_path / "d", tmp_path / "store")
    ((reason, count),) = summary.errors.items()
    assert count == 1
    assert "cannot be read in row_group=2" in reason
    recording = lt.open_store(tmp_path / "store").recording(summary.recording_id)
    frames = {frame.times["row"]: frame for frame in recording.frames("image")}
    assert frames.keys() == {0, 1, 3, 4}
    assert (frames[3].source(), frames[4].source()) == (CAT, CAT), "rows that cannot be read are counted"
    assert [frames[row].source() for row in range(2)] == PHOTOS[:2]


def test_no_column_of_images_is_an_error(tmp_path):
    write(tmp_path / "d" / "a.parquet", {"text": ["a", "b"]})
    with pytest.raises(InvalidValueError, match=r"no Parquet file of .* has a column of images"):
        ingest(tmp_path / "d", tmp_path / "store")


@pytest.mark.parametrize("metadata", [b"", b"[]", b"{", b'{"info": 3}', b'{"info": {"features": []}}', b"\xff"])
def test_metadata_that_says_nothing_is_passed_over(tmp_path, metadata):
    (tmp_path / "d").mkdir()
    table = pa.table({"image": images([CAT])}).replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, tmp_path / "d" / "a.parquet")
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.values, summary.errors) == (1, {})


class CountedParquetFile(io.FileIO):
    """A file that counts what is read of it."""

    nbytes = 0

    def read(self, size=-1):
        content = super().read(size)
        CountedParquetFile.nbytes += len(content)
        return content


@pytest.mark.parametrize("options", [{"row_group_size": 8}, {"row_group_size": 50, "write_batch_size": 1}])
def test_the_first_call_of_a_large_file_does_not_read_all_of_it(tmp_path, monkeypatch, options):
    contents = [encoded(np.roll(data.astronaut(), i, 1), "bmp") for i in range(50)]
    source = tmp_path / "large.parquet"
    write(source, {"image": images(contents)}, compression="none", use_dictionary=False, **options)
    size = source.stat().st_size
    assert size > 39e6
    monkeypatch.setattr(SourceFiles, "open", lambda self, path: CountedParquetFile(self._root + "/" + path))
    monkeypatch.setattr(CountedParquetFile, "nbytes", 0)
    before = pa.total_allocated_bytes()
    calls = parquet.read(SourceFiles(source))
    assert next(calls).read() == contents[0]
    assert CountedParquetFile.nbytes < 15e6
    for i, call in enumerate(calls, 1):
        assert call.read() == contents[i]
        assert pa.total_allocated_bytes() - before < 25e6
    assert i == 49
    assert CountedParquetFile.nbytes < 1.2 * size


def test_a_plan_counts_and_does_not_hold(tmp_path, dataset):
    planned = plan(dataset)
    assert (planned.format, planned.values, planned.bytes_in) == ("parquet", 4, sum(map(len, PHOTOS)))
    pixels = CHINA[..., 0].size + FLOWER[..., 0].size + data.astronaut()[..., 0].size + data.cat()[..., 0].size
    assert planned.bytes_out == pytest.approx(pixels * 8 * 4 / 3 + planned.bytes_in, rel=0.01)


def test_images_beside_parquet_are_an_image_folder(tmp_path, dataset):
    assert find_reader(SourceFiles(dataset), None, None)[0] == "parquet"
    (dataset / "cat.jpg").write_bytes(CAT)
    assert find_reader(SourceFiles(dataset), None, None)[0] == "images"
