"""`lumatile ingest --engine ray`: the same recording as by threads, whatever dies on the way.

Longer than other files: its tests share one Ray.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image
from skimage import data
from tests.support.shards import CAT, IDS, MILLIMETRES, PHOTOS, encoded, write
from tests.support.videos import PANNED
from tests.support.videos import write as write_video

import lumatile as lt
from lumatile.errors import FlushError, InvalidValueError, SinkError
from lumatile.read.frame import Frame
from lumatile.read.verify import verify
from lumatile.settings import RecordingSettings
from lumatile_service.batch import LogCall, SourceFiles, ingest
from lumatile_service.batch.engine import ray_batches
from lumatile_service.batch.formats import FORMATS
from lumatile_service.batch.formats.contents import image_file, segmentation_png
from lumatile_service.batch.job import TooManyErrorsError
from lumatile_service.batch.ledger import Ledger
from lumatile_service.cluster.ray_session import ray_session

pytestmark = [
    pytest.mark.alone,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray and what it imports
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """A Ray of this module's own."""
    with ray_session(None, object_store_bytes=256 << 20):
        yield


def images(root):
    for directory in ("cats", "space"):
        (root / directory).mkdir(parents=True)
    for i in range(12):
        Image.fromarray(np.roll(data.cat(), i, 1)).save(root / "cats" / f"cat{i}.jpg")
    Image.fromarray(data.astronaut()).save(root / "space" / "a.png")
    Image.fromarray(data.astronaut()).save(root / "space" / "b.webp", lossless=True)
    (root / "space" / "e.jpg").write_bytes(CAT[: len(CAT) // 2])
    (root / "space" / "f.png").write_bytes(b"\x89PNG nothing")


def sequence(root):
    """TUM RGB-D: depth, and times."""
    for name in ("rgb", "depth"):
        (root / name).mkdir(parents=True)
    for i in range(5):
        Image.fromarray(np.roll(data.coffee(), i, 1)).save(root / "rgb" / f"{i}.5.png")
        Image.fromarray(np.roll(MILLIMETRES, i, 1)).save(root / "depth" / f"{i}.51.png")
    (root / "rgb.txt").write_text("# color\n# a\n# b\n" + "".join(f"{i}.5 rgb/{i}.5.png\n" for i in range(5)))
    (root / "depth.txt").write_text("# depth\n# a\n# b\n" + "".join(f"{i}.51 depth/{i}.51.png\n" for i in range(5)))


def table(root):
    """Parquet, of two files."""
    root.mkdir()
    for part in range(2):
        struct = pa.array([{"bytes": photo, "path": None} for photo in PHOTOS])
        labels = pa.array(range(len(PHOTOS)))
        pq.write_table(pa.table({"image": struct, "label": labels}), root / f"{part}.parquet")


def shards(root):
    """WebDataset, with depth, ids, and a pickle that nobody opens."""
    for part in range(2):
        members = [(f"{i}.jpg", photo) for i, photo in enumerate(PHOTOS)]
        members += [("7.depth.png", encoded(MILLIMETRES, "png")), ("7.seg.png", encoded(IDS, "png")), ("7.cls", b"3")]
        write(root / f"{part}.tar", [*members, ("8.pkl", b"\x80")])


def videos(root):
    """Two videos, one of them cut off."""
    whole = write_video(root / "a.mkv", PANNED).read_bytes()
    (root / "b.mkv").write_bytes(whole[: len(whole) // 2])


def classes(root):
    """Class ids and images, for `labelled`."""
    root.mkdir()
    for i in range(8):
        Image.fromarray(np.roll(IDS, i, 1)).save(root / f"{i}.png")


def labelled(files):
    """A reader of one's own: class ids behind their colors, first of one entity and then of another."""
    for number, path in enumerate(files.under("", ".png")):
        entity = "early" if number < 4 else "late"
        color = (200, 100 + number, 0)
        if number in (0, 4):
            yield LogCall(
                entity_path=entity,
                kind="annotation_context",
                uri=files.uri(f"classes-{entity}"),
                read=lambda color=color: repr(color).encode(),
                log=lambda recording, path, _, color=color: recording.log_annotation_context(path, (1, "coin", color)),
            )
        yield LogCall(
            entity_path=f"{entity}/ids",
            kind="segmentation",
            uri=files.uri(path),
            read=lambda path=path: files.read(path),
            log=segmentation_png,
            nbytes=1 << 23,  # two fill a batch
            sequences={"frame": number},
        )


LEVEL = {"image": Frame.image, "depth": Frame.depth, "segmentation": Frame.ids}


def content(store, recording_id):
    """What a recording holds, by where it is from."""
    found = {}
    recording = lt.open_store(store).recording(recording_id)
    times = ("log_time", "log_tick")
    for entity in recording.entities():
        for frame in recording.frames(entity):
            levels = [LEVEL[frame.kind](frame, level).tobytes() for level in range(len(frame.levels))]
            source = frame.source() if frame.error is None else None
            key = entity, frame.kind, *sorted(frame.provenance.items())
            assert key not in found
            found[key] = (
                {name: at for name, at in frame.times.items() if name not in times},
                frame.error,
                frame.ext,
                frame.shape,
                (source.dtype, source.tobytes()) if isinstance(source, np.ndarray) else source,
                levels,
                colors(frame),
            )
    return found


def colors(frame):
    """Of class ids, as they are stored."""
    return frame.colors().tobytes() if frame.kind == "segmentation" else None


@pytest.mark.parametrize("dataset", [images, sequence, table, shards, videos, classes])
def test_both_engines_give_the_same_recording(tmp_path, dataset):
    source = tmp_path / "source"
    dataset(source)
    reader = "tests.service.batch.test_batch_ray:labelled" if dataset is classes else None
    by_threads = ingest(source, tmp_path / "threads", reader=reader)
    on_ray = ingest(source, tmp_path / "ray", reader=reader, engine="ray")
    counts = ("recording_id", "format", "values", "logged", "stored_before", "changed", "bytes_in", "errors")
    for name in counts:
        assert getattr(on_ray, name) == getattr(by_threads, name), name
    assert content(tmp_path / "ray", on_ray.recording_id) == content(tmp_path / "threads", by_threads.recording_id)
    assert verify(tmp_path / "ray").ok


def test_a_context_colors_what_comes_behind_it_in_every_actor(tmp_path):
    classes(tmp_path / "source")
    summary = ingest(
        tmp_path / "source", tmp_path / "store", reader="tests.service.batch.test_batch_ray:labelled", engine="ray"
    )
    recording = lt.open_store(tmp_path / "store").recording(summary.recording_id)
    palettes = recording.frames_table().to_pylist()
    for entity, green in (("early/ids", 100), ("late/ids", 104)):
        assert len({row["palette_hash"] for row in palettes if row["entity_path"] == entity}) == 1
        for frame in recording.frames(entity):
            baked = frame.colors()[frame.ids() == 1]
            assert {tuple(each) for each in baked.tolist()} == {(200, green, 0, 255)}


class Events:
    """Watches a job."""

    def __init__(self):
        self.totals = []

    @contextmanager
    def watch(self, tally):
        yield
        self.totals.append((tally.total, tally.seen))


def test_run_again_nothing_is_logged_and_progress_knows_the_total_of_a_list(tmp_path):
    images(tmp_path / "source")
    events = Events()
    for logged in (16, 0):
        summary = ingest(tmp_path / "source", tmp_path / "store", engine="ray", watcher=events)
        assert (summary.logged, summary.stored_before) == (logged, 16 - logged)
    assert events.totals == [(16, 16)] * 2


def test_values_that_have_moved_are_put_right_in_every_engine(tmp_path):
    images(tmp_path / "source")
    ingest(tmp_path / "source", tmp_path / "store", engine="ray")
    shutil.copy(tmp_path / "source/space/a.png", tmp_path / "source/space/0.png")
    summary = ingest(tmp_path / "source", tmp_path / "store", engine="ray")
    assert (summary.logged, summary.moved, summary.withdrawn) == (1, 4, 4), "all others in its directory"
    assert ingest(tmp_path / "source", tmp_path / "store").stored_before == summary.values


def deadly(files):
    """Kills the process that logs the 20th file, once."""
    marker = Path(files._root).parent / "killed"
    for number, path in enumerate(files.under("", ".png")):
        yield LogCall(
            entity_path="a",
            kind="image",
            uri=files.uri(path),
            read=lambda path=path: files.read(path),
            log=partial(log_or_die, marker, number == 20),
            nbytes=1 << 21,  # eight fill a batch
            sequences={"frame": number},
        )


def log_or_die(marker, dies, recording, entity, content):
    image_file(recording, entity, content)
    if dies and not marker.exists():
        recording.flush()
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def test_an_actor_that_is_killed_loses_nothing_and_stores_nothing_twice(tmp_path):
    (tmp_path / "source").mkdir()
    for i in range(60):
        Image.fromarray(np.roll(data.cat()[:64, :64], i, 0)).save(tmp_path / "source" / f"{i}.png")
    summary = ingest(
        tmp_path / "source", tmp_path / "store", reader="tests.service.batch.test_batch_ray:deadly", engine="ray"
    )
    assert (tmp_path / "killed").exists()
    frames = lt.open_store(tmp_path / "store").recording(summary.recording_id).frames("a")
    assert sorted(frame.times["frame"] for frame in frames) == list(range(60))
    for frame in frames:
        np.testing.assert_array_equal(frame.source(), np.roll(data.cat()[:64, :64], frame.times["frame"], 0))
    assert verify(tmp_path / "store").ok


def test_a_job_stops_after_too_many_bad_values_and_goes_on_when_they_are_borne(tmp_path):
    images(tmp_path / "source")
    with pytest.raises(TooManyErrorsError, match="stopped after 2 bad values, more than 0"):
        ingest(tmp_path / "source", tmp_path / "store", engine="ray", max_errors=0)
    summary = ingest(tmp_path / "source", tmp_path / "store", engine="ray", max_errors=2)
    assert (summary.values, sum(summary.errors.values())) == (16, 2)


def test_what_a_reader_raises_is_raised(tmp_path):
    (tmp_path / "source").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "source" / "a.parquet")
    with pytest.raises(InvalidValueError, match=r"no Parquet file of .* has a column of images"):
        ingest(tmp_path / "source", tmp_path / "store", engine="ray")


def test_a_store_that_cannot_be_written_ends_the_job(tmp_path):
    images(tmp_path / "source")
    (tmp_path / "store").write_text("a file")
    with pytest.raises(FlushError, match="not durable: the store must be a directory"):
        ingest(tmp_path / "source", tmp_path / "store", engine="ray")


by_partial = partial(labelled)
"""A reader that is no function."""


def test_a_reader_may_be_a_partial(tmp_path):
    classes(tmp_path / "source")
    summary = ingest(
        tmp_path / "source", tmp_path / "store", reader="tests.service.batch.test_batch_ray:by_partial", engine="ray"
    )
    assert (summary.values, summary.errors) == (10, {})


def test_a_batch_that_an_actor_is_asked_for_again_is_stored_once(tmp_path, monkeypatch):
    """As after a break in the network: Ray does not know whether the first call was done, and the actor lives."""
    monkeypatch.setattr(ray_batches, "_restarted", lambda: False)
    images(tmp_path / "source")
    files = SourceFiles(tmp_path / "source")
    told = ray_batches._Told(
        source=files.url,
        store=str(tmp_path / "store"),
        settings=RecordingSettings(application_id="a", recording_id="run", max_block=None),
        backend="auto",
        cores=1,
    )
    actor = ray_batches._Actor(told, ray.put(Ledger(tmp_path / "store", "run", files.url)))
    (row,) = ray_batches._batches(FORMATS["images"].read(files))
    with warnings.catch_warnings(), ThreadPoolExecutor(2) as pool:
        warnings.simplefilter("ignore", lt.LumatileWarning)
        answers = [*pool.map(actor, [row, row]), actor(row)]
    assert len({answer["counts"][0].as_py() for answer in answers}) == 1
    recording = lt.open_store(tmp_path / "store").recording("run")
    assert len(recording) == len(content(tmp_path / "store", "run")) == 16


def test_an_engine_that_there_is_not(tmp_path):
    (tmp_path / "source").mkdir()
    with pytest.raises(InvalidValueError, match="the engine must be 'local' or 'ray', not 'spark'"):
        ingest(tmp_path / "source", tmp_path / "store", engine="spark")
    with pytest.raises(InvalidValueError, match="a Ray's address is for the engine 'ray', and is 'auto'"):
        ingest(tmp_path / "source", tmp_path / "store", ray_address="auto")
    with pytest.raises(SinkError, match=r"there is no Ray to join at 127\.0\.0\.1:1"):
        ingest(tmp_path / "source", tmp_path / "store", format="images", engine="ray", ray_address="127.0.0.1:1")


def test_the_command_with_a_ray_of_its_own_killed_and_run_again(tmp_path):
    """The whole process group dies, Ray's processes too; the next run does what is missing."""
    source, store = tmp_path / "source", tmp_path / "store"
    source.mkdir()
    for i in range(2000):
        Image.fromarray(np.full((8, 8), i % 251, np.uint8)).save(source / f"{i}.png")
    command = [sys.executable, "-c", "from lumatile_service.cli import main; main()", "ingest", str(source)]
    command += ["--store", str(store), "--engine", "ray", "--json"]
    options = {"cwd": tmp_path, "text": True, "stdout": subprocess.PIPE, "start_new_session": True}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **options)
    deadline = time.monotonic() + 150
    while not list(store.glob("*/frames/*.arrow")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = subprocess.run(command, stderr=subprocess.PIPE, check=False, timeout=120, **options)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["logged"] + summary["stored_before"] == summary["values"] == 2000
    assert summary["stored_before"] > 0
    frames = lt.open_store(store).recording(summary["recording_id"]).frames("source")
    assert sorted(frame.times["image"] for frame in frames) == list(range(2000))
    assert verify(store).ok
