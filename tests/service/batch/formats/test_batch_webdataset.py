"""WebDataset shards: real pixels in tar files, cut ones, hostile ones; pickles, which nobody loads."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest
from skimage import data
from tests.support.shards import CAT, IDS, MILLIMETRES, PHOTOS, encoded, frames_of, npy, write

import lumatile as lt
from lumatile.read.verify import verify
from lumatile_service.batch import ingest
from lumatile_service.batch.formats import find_reader, webdataset
from lumatile_service.batch.source_files import SourceFiles


@pytest.fixture
def shards(tmp_path):
    """Two shards of two samples, with a photo, its class, its caption."""
    root = tmp_path / "photos"
    for shard in range(2):
        members = [("__meta__/about.json", b"{}")]
        for i in range(2):
            number = 2 * shard + i
            members += [
                (f"dir.a/{number:03d}.cls", f"{number}\n".encode()),
                (f"dir.a/{number:03d}.jpg", PHOTOS[number]),
                (f"dir.a/{number:03d}.json", json.dumps({"id": number, "boxes": [[1, 2.5]]}).encode()),
                (f"dir.a/{number:03d}.wav", b"RIFF"),
                (f"dir.a/{number:03d}.caption.TXT", "photo é".encode()),
            ]
        write(root / f"photos-{shard:06d}.tar", [*members, ("README", b"no key"), (".hidden.jpg", b"")])
    (root / "index.json").write_text("{}")
    return root


def test_images_and_what_is_said_of_them(tmp_path, shards):
    summary = ingest(shards, tmp_path / "store")
    assert (summary.format, summary.values, summary.logged, summary.errors) == ("webdataset", 4, 4, {})
    frames = frames_of(tmp_path / "store", summary)
    assert {sample: frame.source() for sample, frame in frames.items()} == dict(enumerate(PHOTOS))
    assert frames[2].ext == {
        "key": "dir.a/002",
        "cls": 2,
        "json": {"id": 2, "boxes": [[1, 2.5]]},
        "caption.txt": "photo é",
    }
    assert frames[2].provenance["uri"] == (shards / "photos-000001.tar").as_uri()
    assert frames[2].provenance["member"] == "dir.a/002.jpg"
    assert verify(tmp_path / "store").ok


def test_run_again_nothing_is_logged_and_a_changed_class_is_noticed(tmp_path, shards):
    ingest(shards, tmp_path / "store")
    again = ingest(shards, tmp_path / "store")
    assert (again.values, again.logged, again.stored_before, again.bytes_out) == (4, 0, 4, 0)
    write(shards / "photos-000000.tar", [("dir.a/000.jpg", PHOTOS[0]), ("dir.a/000.cls", b"7")])
    third = ingest(shards, tmp_path / "store")
    assert (third.values, third.logged, third.changed) == (3, 1, 1)
    recording = lt.open_store(tmp_path / "store").recording(third.recording_id)
    assert recording.latest_at("image", sample=0).ext == {"key": "dir.a/000", "cls": 7}


@pytest.mark.parametrize(("name", "mode"), [("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar", "w:xz"), ("a.tar", "w")])
@pytest.mark.parametrize("layout", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_shard_alone_in_any_compression(tmp_path, name, mode, layout):
    long = "directory/" * 20 + "0.jpg"
    source = write(tmp_path / name, [(long, CAT)], mode, format=layout)
    summary = ingest(source, tmp_path / "store")
    assert (summary.format, summary.values, summary.errors) == ("webdataset", 1, {})
    (frame,) = frames_of(tmp_path / "store", summary).values()
    assert frame.source() == CAT
    assert frame.provenance["uri"] == source.as_uri()
    assert frame.provenance["member"] == long


def test_depth_segmentation_arrays_and_several_images_of_a_sample(tmp_path):
    linear = (data.astronaut() / 255).astype(np.float32)
    members = [
        ("0.depth.png", encoded(MILLIMETRES, "png")),
        ("0.jpg", CAT),
        ("0.left.png", encoded(data.astronaut(), "png")),
        ("0.left.depth.npy", npy((MILLIMETRES / 1000).astype(np.float32))),
        ("0.right.webp", encoded(data.astronaut(), "webp", lossless=True)),
        ("0.seg.png", encoded(IDS, "png")),
        ("0.label.npy", npy(IDS.astype(np.int64))),
        ("0.mask.png", encoded(IDS, "png")),
        ("0.linear.npy", npy(linear)),
        ("0.turned.npy", npy(np.asfortranarray(data.astronaut()))),
        ("0.big.npy", npy(MILLIMETRES.astype(">u2"))),
        ("0.png", encoded(data.coffee(), "png")),
        ("0.embedding.npy", npy(np.ones(7))),
        ("0.cls", b"1"),
    ]
    write(tmp_path / "d" / "train" / "0.tar", members)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.values, summary.errors) == (12, {})
    recording = lt.open_store(tmp_path / "store").recording(summary.recording_id)

    def at(entity):
        return recording.latest_at(f"train/{entity}", sample=0)

    assert at("image").source() == CAT
    np.testing.assert_array_equal(at("image/png").source(), data.coffee())
    for entity in ("left", "right", "turned"):
        np.testing.assert_array_equal(at(entity).source(), data.astronaut())
    np.testing.assert_array_equal(at("linear").source(), linear)
    np.testing.assert_array_equal(at("big").source(), MILLIMETRES)
    np.testing.assert_array_equal(at("depth").source(), MILLIMETRES)
    np.testing.assert_array_equal(at("depth").depth(), MILLIMETRES.astype(np.float32) / np.float32(1000))
    np.testing.assert_array_equal(at("left/depth").depth(), (MILLIMETRES / 1000).astype(np.float32))
    for entity in ("seg", "label", "mask"):
        np.testing.assert_array_equal(at(entity).ids(), IDS)
    assert at("depth").ext == at("seg").ext == at("linear").ext == {"key": "0", "cls": 1}


def test_broken_files_are_error_rows_and_the_rest_is_there(tmp_path):
    cut = npy(data.astronaut())[:-1]
    members = [
        ("0.jpg", CAT[: len(CAT) // 2]),
        ("1.jpg", CAT),
        ("1.json", b"{"),
        ("1.cls", b"cat"),
        ("1.txt", b"\xff"),
        ("1.deep.json", b"[" * 100_000),
        ("2.depth.png", encoded(data.astronaut(), "png")),
        ("3.a.npy", cut),
        ("3.b.npy", b"\x93NUMPY nothing"),
        ("3.c.npy", npy(np.ones((2, 2), complex))),
        ("4.png", b""),
        ("5.jpg", PHOTOS[1]),
    ]
    write(tmp_path / "d" / "0.tar", members)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.values, sum(summary.errors.values())) == (12, 10)
    assert any("'1.json' is not a json" in reason for reason in summary.errors)
    frames = frames_of(tmp_path / "store", summary)
    assert (frames[1].source(), frames[5].source()) == (CAT, PHOTOS[1])
    assert frames[1].ext == {"key": "1"}
    again = ingest(tmp_path / "d", tmp_path / "store")
    assert (again.logged, again.stored_before) == (0, 12)


@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_shard_gives_what_is_whole_and_one_error_and_the_next_shard_is_read(tmp_path, shards, packed):
    first = shards / "photos-000000.tar"
    content = first.read_bytes()
    at = content.index(PHOTOS[1]) + 1000
    if packed:
        first.unlink()
        packed = gzip.compress(content[:at], 0)
        first = shards / "photos-000000.tar.gz"
        first.write_bytes(packed[:-9])
    else:
        first.write_bytes(content[:at])
    summary = ingest(shards, tmp_path / "store")
    ((reason, count),) = summary.errors.items()
    assert count == 1
    assert f"shard {first.name}: the archive is truncated or corrupt in 'dir.a/001.jpg'" in reason
    assert summary.examples[reason] == first.as_uri()
    frames = frames_of(tmp_path / "store", summary)
    assert {sample: frame.source() for sample, frame in frames.items()} == {0: PHOTOS[0], 2: PHOTOS[2], 3: PHOTOS[3]}
    again = ingest(shards, tmp_path / "store")
    assert (again.values, again.logged) == (4, 0)


def test_no_tar_at_all_is_one_error(tmp_path, shards):
    (shards / "photos-000000.tar").write_bytes(CAT)
    summary = ingest(shards, tmp_path / "store")
    assert list(summary.errors.values()) == [1]
    assert summary.values == 3


class CountedShard(io.FileIO):
    """A file that counts what is read of it."""

    nbytes = 0

    def read(self, size=-1):
        content = super().read(size)
        CountedShard.nbytes += len(content)
        return content


def test_the_first_call_of_a_large_shard_reads_little_of_it(tmp_path, monkeypatch):
    contents = [encoded(np.roll(data.astronaut(), i, 1), "bmp") for i in range(30)]
    source = write(tmp_path / "large.tar", [(f"{i}.bmp", content) for i, content in enumerate(contents)])
    monkeypatch.setattr(SourceFiles, "open", lambda self, path: CountedShard(self._root + "/" + path))
    monkeypatch.setattr(CountedShard, "nbytes", 0)
    calls = webdataset.read(SourceFiles(source))
    for i, content in enumerate(contents):
        assert next(calls).read() == content
        assert CountedShard.nbytes <= (i + 2) * len(content) + (1 << 20)


def test_images_beside_shards_are_an_image_folder(shards):
    assert find_reader(SourceFiles(shards), None, None)[0] == "webdataset"
    (shards / "cat.jpg").write_bytes(CAT)
    assert find_reader(SourceFiles(shards), None, None)[0] == "images"
