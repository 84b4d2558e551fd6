"""WebDataset shards: real pixels in tar files, cut ones, hostile ones; pickles, which nobody loads."""

import gzip
import io
import json
import os
import pickle
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_images

import lumatile as lt
from lumatile.verify import verify
from lumatile_service.batch import ingest
from lumatile_service.batch.formats import find_reader, webdataset
from lumatile_service.batch.source_files import SourceFiles


def encoded(array, kind, **options):
    content = io.BytesIO()
    Image.fromarray(array).save(content, kind, **options)
    return content.getvalue()


def npy(array, **options):
    content = io.BytesIO()
    np.save(content, array, **options)
    return content.getvalue()


CHINA, FLOWER = load_sample_images().images
CAT = encoded(data.cat(), "jpeg")
PHOTOS = [encoded(CHINA, "jpeg"), encoded(FLOWER, "jpeg"), CAT, encoded(data.coffee(), "jpeg")]
IDS = (data.coins() // 32).astype(np.uint8)
MILLIMETRES = np.where(data.coins() > 90, data.coins().astype(np.uint16) * 17, 0).astype(np.uint16)


def write(path, members, mode="w", **options):
    """A shard."""
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, mode, **options) as archive:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


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


def frames_of(store, summary, entity="image"):
    frames = lt.open_store(store).recording(summary.recording_id).frames(entity)
    return {frame.times["sample"]: frame for frame in frames if "sample" in frame.times}


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
    assert any("'1.json' is no json" in reason for reason in summary.errors)
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


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickles_are_never_loaded(tmp_path):
    made = tmp_path / "made"
    poison = pickle.dumps(Malice(made))
    objects = np.empty((2, 2), object)
    objects[:] = Malice(made)
    members = [("0.jpg", CAT)]
    members += [(f"{i}.{suffix}", poison) for i in range(2) for suffix in ("pyd", "pkl", "pickle", "pth")]
    members += [
        ("2.x.npy", npy(objects, allow_pickle=True)),
        ("2.jpg", poison),
        ("2.json", poison),
        ("2.y.npy", poison),
    ]
    write(tmp_path / "d" / "0.tar", members)
    seen = []
    sys.addaudithook(lambda event, _: seen.append(event) if event == "pickle.find_class" and recording else None)
    recording = True
    try:
        summary = ingest(tmp_path / "d", tmp_path / "store")
    finally:
        recording = False
    assert not made.exists()
    assert not seen
    assert sorted(reason for reason in summary.errors if "never loaded" in reason) == [
        "shard 0.tar: 1 .npy files are pickles, which are never loaded",
        *(f"shard 0.tar: 2 .{s} files are pickles, which are never loaded" for s in ("pickle", "pkl", "pth", "pyd")),
    ]
    assert frames_of(tmp_path / "store", summary)[0].source() == CAT
    again = ingest(tmp_path / "d", tmp_path / "store")
    assert (again.logged, again.stored_before) == (0, again.values)
    pickle.loads(poison)
    assert made.exists(), "who loads one makes it"


def test_names_are_only_names(tmp_path):
    names = ["/etc/0.jpg", "../../1.jpg", "./2.jpg", "a/../3.jpg", "4.\u202e\x01..jpg", "5." + "x" * 2000 + ".jpg"]
    source = write(tmp_path / "in" / "d" / "0.tar", [(name, PHOTOS[i % 4]) for i, name in enumerate(names)])
    with tarfile.open(source, "a", format=tarfile.USTAR_FORMAT, encoding="latin-1") as archive:
        header = tarfile.TarInfo("6\xff.jpg")
        header.size = len(CAT)
        archive.addfile(header, io.BytesIO(CAT))
        link = tarfile.TarInfo("7.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    summary = ingest(source.parent, tmp_path / "store")
    assert (summary.values, summary.errors) == (7, {})
    after = [path for path in sorted(tmp_path.rglob("*")) if tmp_path / "store" not in (path, *path.parents)]
    assert after == before, "nothing is written but the store"
    recording = lt.open_store(tmp_path / "store").recording(summary.recording_id)
    assert recording.entities() == ["image"]
    members = {frame.provenance["member"] for frame in recording.frames("image")}
    assert members == {*names, "6\\xff.jpg"}
    again = ingest(source.parent, tmp_path / "store")
    assert (again.logged, again.stored_before) == (0, 7)


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "SAMPLE_BYTES", len(CAT) + 10)
    monkeypatch.setattr(webdataset, "TEXT_BYTES", 5)
    write(tmp_path / "d" / "0.tar", [("0.jpg", CAT), ("0.b.jpg", PHOTOS[0]), ("0.txt", b"123456"), ("0.cls", b"3")])
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.values, sum(summary.errors.values())) == (3, 2)
    assert any("a sample must not have more than" in reason for reason in summary.errors)
    assert frames_of(tmp_path / "store", summary)[0].ext == {"key": "0", "cls": 3}


class Counted(io.FileIO):
    """A file that counts what is read of it."""

    nbytes = 0

    def read(self, size=-1):
        content = super().read(size)
        Counted.nbytes += len(content)
        return content


def test_the_first_call_of_a_large_shard_reads_little_of_it(tmp_path, monkeypatch):
    contents = [encoded(np.roll(data.astronaut(), i, 1), "bmp") for i in range(30)]
    source = write(tmp_path / "large.tar", [(f"{i}.bmp", content) for i, content in enumerate(contents)])
    monkeypatch.setattr(SourceFiles, "open", lambda self, path: Counted(self._root + "/" + path))
    monkeypatch.setattr(Counted, "nbytes", 0)
    calls = webdataset.read(SourceFiles(source))
    for i, content in enumerate(contents):
        assert next(calls).read() == content
        assert Counted.nbytes <= (i + 2) * len(content) + (1 << 20)


def test_images_beside_shards_are_an_image_folder(shards):
    assert find_reader(SourceFiles(shards), None, None)[0] == "webdataset"
    (shards / "cat.jpg").write_bytes(CAT)
    assert find_reader(SourceFiles(shards), None, None)[0] == "images"
