"""Jobs that are killed while they read shards or videos: each value is stored once, whatever moment it was."""

import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.shards import encoded
from tests.support.shards import write as write_tar
from tests.support.videos import CAT
from tests.support.videos import write as write_video

import lumatile as lt
from lumatile.read.verify import verify
from lumatile_service.batch import ingest

COUNT = 48
PICTURES = [np.ascontiguousarray(np.roll(CAT[:64, :64], i, 1)) for i in range(COUNT)]

JOB = """
import sys
from lumatile_service.batch import ingest
from lumatile_service.batch.engine.call_logger import CallLogger

before = CallLogger.log
def do(self, call, recording):
    before(self, call, recording)
    recording.flush()
    sys.stdout.write(f"{call.uri} {call.member}\\n")
    sys.stdout.flush()
CallLogger.log = do
ingest(sys.argv[1], sys.argv[2], threads=2)
"""


def parquet(root):
    for number in range(2):
        rows = [{"bytes": encoded(picture, "png"), "path": None} for picture in PICTURES[number::2]]
        table = pa.table({"image": pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()}))})
        pq.write_table(table, root / f"{number}.parquet", row_group_size=10)


def webdataset(root):
    for number in range(2):
        members = [(f"{i}.png", encoded(picture, "png")) for i, picture in enumerate(PICTURES[number::2])]
        write_tar(root / f"{number}.tar", members)


def video(root):
    for number in range(2):
        write_video(root / f"{number}.mkv", PICTURES[number::2])


@pytest.mark.parametrize("write", [parquet, webdataset, video])
def test_killed_in_the_middle_of_a_file_the_next_run_stores_what_is_missing_once(tmp_path, write):
    root, store = tmp_path / "data", tmp_path / "store"
    root.mkdir()
    write(root)
    rng = np.random.default_rng(0)
    durable = set()
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", JOB, root, store], stdout=subprocess.PIPE, text=True) as process:
            for _ in range(len(durable) + int(rng.integers(2, 12))):  # those before are skipped, and said too
                durable.add(process.stdout.readline().strip())
            time.sleep(rng.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            durable.update(line.strip() for line in process.stdout if line.endswith("\n"))
    assert 5 < len(durable) < COUNT
    summary = ingest(root, store)
    assert (summary.format, summary.values, summary.errors) == (write.__name__, COUNT, {})
    assert summary.logged + summary.stored_before == COUNT
    assert summary.stored_before >= len(durable)
    recording = lt.open_store(store).recording(summary.recording_id)
    frames = [frame for entity in recording.entities() for frame in recording.frames(entity)]
    assert len({(frame.provenance["uri"], frame.provenance["member"]) for frame in frames}) == len(frames) == COUNT
    stored = sorted(frame.source().tobytes() for frame in frames)
    assert stored == sorted(picture.tobytes() for picture in PICTURES)
    assert verify(store).ok
