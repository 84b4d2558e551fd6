"""Datasets in a bucket: what is read of them is what is read of the same files in a directory."""

import os
import urllib.request
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.support.s3_server import S3Server
from tests.support.shards import PHOTOS
from tests.support.shards import write as write_tar
from tests.support.videos import PANNED
from tests.support.videos import write as write_video

import lumatile as lt
from lumatile_service.batch import ingest
from lumatile_service.batch.source_files import SourceFiles


@pytest.fixture(scope="module")
def server():
    started = S3Server()
    yield started
    started.close()


@pytest.fixture
def upload(server, monkeypatch):
    """A function that puts a directory into a new bucket, and gives its URL."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {"ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")

    def put(directory):
        bucket = f"bucket-{uuid.uuid4().hex}"
        server.create_bucket(bucket)
        for path in directory.rglob("*"):
            if path.is_file():
                url = f"http://127.0.0.1:{server.port}/{bucket}/sets/one/{path.relative_to(directory)}"
                kind = {"Content-Type": "application/octet-stream"}
                urllib.request.urlopen(urllib.request.Request(url, path.read_bytes(), kind, method="PUT")).close()
        return f"s3://{bucket}/sets/one"

    return put


def parquet(root):
    rows = [{"bytes": content, "path": None} for content in PHOTOS]
    table = pa.table(
        {"image": pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()})), "label": [0, 1, 2, 3]}
    )
    pq.write_table(table, root / "part.parquet", row_group_size=2)


def webdataset(root):
    write_tar(root / "0.tar", [(f"{i}.jpg", content) for i, content in enumerate(PHOTOS[:2])])
    write_tar(root / "1.tar.gz", [(f"{i}.jpg", content) for i, content in enumerate(PHOTOS[2:])], mode="w:gz")


def video(root):
    write_video(root / "left" / "a.mp4", PANNED, "libx264", "yuv420p")


def images(root):
    for i, picture in enumerate(PANNED[:3]):
        Image.fromarray(picture).save(root / f"{i}.png")


@pytest.mark.parametrize("write", [parquet, webdataset, video, images])
def test_a_bucket_gives_what_the_directory_gives(tmp_path, upload, write):
    (tmp_path / "data" / "left").mkdir(parents=True)
    write(tmp_path / "data")
    url = upload(tmp_path / "data")
    here = ingest(tmp_path / "data", tmp_path / "here", recording_id="same")
    there = ingest(url, tmp_path / "there", recording_id="same")
    assert here.format == there.format == write.__name__
    assert (there.values, there.logged, there.errors) == (here.values, here.logged, {})
    again = ingest(url, tmp_path / "there", recording_id="same")
    assert (again.logged, again.stored_before) == (0, here.values)

    def stored(store):
        recording = lt.open_store(tmp_path / store).recording("same")
        frames = [frame for entity in recording.entities() for frame in recording.frames(entity)]
        return {(frame.provenance["uri"].rpartition("/")[2], frame.provenance["member"]): frame for frame in frames}

    expected, found = stored("here"), stored("there")
    if write is images:  # its files are at the directory's name
        assert {frame.entity_path for frame in found.values()} == {"one"}
    assert found.keys() == expected.keys()
    for key, frame in found.items():
        np.testing.assert_array_equal(frame.source(), expected[key].source())
        assert frame.provenance["content_hash"] == expected[key].provenance["content_hash"]
        assert frame.provenance["uri"].startswith(f"{url}/")


def test_a_file_of_a_bucket_is_read_piece_by_piece(tmp_path, upload):
    content = np.random.default_rng(0).bytes(3 << 20)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.bin").write_bytes(content)
    files = SourceFiles(upload(tmp_path / "data"))
    assert files.sizes == {"a.bin": len(content)}
    with files.open("a.bin") as opened:
        opened.seek(1 << 20)
        assert opened.read(100) == content[1 << 20 :][:100]
        assert opened.seek(0, 2) == len(content)
    alone = SourceFiles(f"{files.url}/a.bin")
    assert alone.read("a.bin") == content
    with pytest.raises(FileNotFoundError), files.open("b.bin"):
        pass
