"""How far a job is: by its values where they are counted before, by the bytes of its files where they are not."""

import re
import time
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.support.shards import PHOTOS
from tests.support.shards import write as write_tar
from tests.support.videos import PANNED
from tests.support.videos import write as write_video
from typer.testing import CliRunner

from lumatile_service.batch import ingest
from lumatile_service.batch.formats import webdataset as webdataset_format
from lumatile_service.batch.plan import plan
from lumatile_service.batch.tally import IngestTally
from lumatile_service.cli import ingest as command
from lumatile_service.cli.app import app


def images(root):
    for i, picture in enumerate(PANNED):
        Image.fromarray(picture).save(root / f"{i}.png")


def parquet(root):
    rows = [{"bytes": content, "path": None} for content in PHOTOS * 4]
    pq.write_table(
        pa.table({"image": pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()}))}),
        root / "a.parquet",
        use_dictionary=False,
    )


def webdataset(root):
    write_tar(root / "0.tar", [(f"{i}.jpg", content) for i, content in enumerate(PHOTOS * 4)])


def video(root):
    write_video(root / "a.mkv", PANNED * 5)


class Steps:
    """Watches every step of a job."""

    def __init__(self, monkeypatch):
        self.seen = []
        before = IngestTally.read

        def read(tally, *args):
            before(tally, *args)
            self.seen.append(tally.fraction)

        monkeypatch.setattr(IngestTally, "read", read)

    @contextmanager
    def watch(self, tally):
        yield


@pytest.mark.parametrize("write", [images, parquet, webdataset, video])
def test_progress_grows_with_each_value_and_ends_where_the_files_end(tmp_path, monkeypatch, write):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    steps = Steps(monkeypatch)
    summary = ingest(tmp_path / "data", tmp_path / "store", threads=1, watcher=steps)
    assert summary.format == write.__name__
    assert len(steps.seen) == summary.values
    assert steps.seen == sorted(steps.seen)
    assert steps.seen[0] < 0.3, "not all at once"
    assert steps.seen[len(steps.seen) // 2] == pytest.approx(0.5, abs=0.2)
    assert 0.9 <= steps.seen[-1] <= 1.0


def test_what_is_read_of_a_video_are_the_bytes_of_its_file(tmp_path):
    (tmp_path / "data").mkdir()
    video(tmp_path / "data")
    size = (tmp_path / "data" / "a.mkv").stat().st_size
    planned = plan(tmp_path / "data")
    summary = ingest(tmp_path / "data", tmp_path / "store")
    assert planned.bytes_in == summary.bytes_in
    assert 0.9 * size < summary.bytes_in <= size


def slow(files):
    """WebDataset, a value each 0.1 s."""
    for call in webdataset_format.read(files):
        time.sleep(0.1)
        yield replace(call)


def test_lines_say_how_long_it_takes_where_values_are_not_counted_before(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    webdataset(tmp_path / "data")
    monkeypatch.setattr(command, "LINE_SECONDS", 0.3)
    reader = "tests.service.batch.test_batch_progress:slow"
    done = CliRunner().invoke(
        app, ["ingest", str(tmp_path / "data"), "--store", str(tmp_path / "store"), "--reader", reader]
    )
    assert done.exit_code == 0, done.output
    lines = re.findall(r"^lumatile: (\d+) values, about (\d+)%: .* read .*, (\d+) s to go$", done.stderr, re.MULTILINE)
    assert len(lines) >= 2
    assert [int(line[1]) for line in lines] == sorted(int(line[1]) for line in lines)
    assert int(lines[-1][2]) <= 2, "of about two seconds"
