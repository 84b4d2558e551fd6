""".rrd files as sources: several recordings, files that are broken, jobs that are killed, buckets, memory."""

import os
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import rerun as rr
from skimage import data
from tests.support.rerun_files import rows, written
from tests.support.s3_server import S3Server
from typer.testing import CliRunner

import lumatile as lt
from lumatile.errors import InvalidValueError
from lumatile.read.verify import verify
from lumatile_service.batch import ingest
from lumatile_service.batch.formats import find_reader
from lumatile_service.batch.formats.rerun import reader as rerun_rrd
from lumatile_service.batch.source_files import SourceFiles
from lumatile_service.cli.app import app

COUNT = 30
PHOTOS = [np.ascontiguousarray(np.roll(data.astronaut()[:64, :64], i, 1)) for i in range(COUNT)]


def log_photos(recording):
    """One a chunk, on the sequence "frame"."""
    for frame, photo in enumerate(PHOTOS):
        recording.set_time("frame", sequence=frame)
        recording.log("camera", rr.Image(photo))
        recording.flush()


def frames_of(store, summary):
    recording = lt.open_store(store).recording(summary.recording_id)
    return [frame for entity in recording.entities() for frame in recording.frames(entity)]


def assert_photos(frames, numbers):
    assert sorted(frame.times["frame"] for frame in frames) == sorted(numbers)
    for frame in frames:
        np.testing.assert_array_equal(frame.source(), PHOTOS[frame.times["frame"]])


def test_the_format_is_told_by_the_files(tmp_path):
    (tmp_path / "logs" / "day 1").mkdir(parents=True)
    path = written(tmp_path / "logs" / "day 1" / "a b.rrd", log_photos)
    for source in (tmp_path / "logs", path):
        assert find_reader(SourceFiles(source), None, None) == ("rerun", rerun_rrd.read)
        assert_photos(frames_of(tmp_path / "store", ingest(source, tmp_path / "store")), range(COUNT))


def test_files_of_one_recording_are_put_together(tmp_path):
    (tmp_path / "logs").mkdir()
    for name, numbers in (("1.rrd", range(10)), ("2.rrd", range(10, 25))):

        def log(recording, numbers=numbers):
            for frame in numbers:
                recording.set_time("frame", sequence=frame)
                recording.log("camera", rr.Image(PHOTOS[frame]))

        written(tmp_path / "logs" / name, log)
    frames = frames_of(tmp_path / "store", ingest(tmp_path / "logs", tmp_path / "store"))
    assert {frame.entity_path for frame in frames} == {"camera"}
    assert_photos(frames, range(25))


def test_several_recordings_are_told_apart_by_their_ids(tmp_path):
    (tmp_path / "logs").mkdir()
    files = [
        written(
            tmp_path / "logs" / f"{name}.rrd",
            lambda recording: recording.log("/", rr.Image(PHOTOS[0])) or recording.log("camera", rr.Image(PHOTOS[1])),
            recording_id=name,
        )
        for name in ("monday", "tuesday")
    ]
    merged = tmp_path / "merged.rrd"
    subprocess.run([sys.executable, "-m", "rerun", "rrd", "merge", *files, "-o", merged], check=True, env=quiet_env())
    for source in (tmp_path / "logs", merged):
        frames = frames_of(tmp_path / "store", ingest(source, tmp_path / "store"))
        assert sorted(frame.entity_path for frame in frames) == ["monday", "monday/camera", "tuesday", "tuesday/camera"]


def quiet_env():
    return {**os.environ, "RUST_LOG": "off", "RERUN_ANALYTICS_DISABLED": "1"}


def test_at_the_root_nothing_is_logged_twice_either(tmp_path):
    def log(recording):
        recording.log("/", rr.AnnotationContext([(1, "a")]), static=True)
        recording.log("/", rr.Image(PHOTOS[0]))
        recording.log("/", rr.Clear(recursive=True))

    path = written(tmp_path / "root.rrd", log)
    assert ingest(path, tmp_path / "store").logged == 3
    assert ingest(path, tmp_path / "store").logged == 0


def test_blueprints_are_not_read(tmp_path):
    import rerun.blueprint as rrb

    def log(recording):
        recording.send_blueprint(rrb.Blueprint(rrb.Spatial2DView(origin="camera")))
        log_photos(recording)

    assert_photos(frames_of(tmp_path / "s", ingest(written(tmp_path / "b.rrd", log), tmp_path / "s")), range(COUNT))


def test_of_a_truncated_file_what_is_whole_is_stored_and_one_error_row_says_so(tmp_path):
    whole = written(tmp_path / "cut.rrd", log_photos).read_bytes()
    (tmp_path / "cut.rrd").write_bytes(whole[: len(whole) // 2])
    summary = ingest(tmp_path / "cut.rrd", tmp_path / "store")
    ((reason, count),) = summary.errors.items()
    assert count == 1
    assert "exceeds file size" in reason
    frames = [frame for frame in frames_of(tmp_path / "store", summary) if frame.error is None]
    assert COUNT // 4 < len(frames) < COUNT
    assert_photos(frames, range(len(frames)))
    (tmp_path / "cut.rrd").write_bytes(whole)  # the writer went on
    again = ingest(tmp_path / "cut.rrd", tmp_path / "store")
    assert (again.logged, again.stored_before) == (COUNT - len(frames), len(frames))


@pytest.mark.parametrize("content", [b"", b"RRF2", b"no recording at all, but long enough to be one"])
def test_what_is_no_recording_is_an_error_row_beside_the_others(tmp_path, content):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "bad.rrd").write_bytes(content)
    written(tmp_path / "logs" / "good.rrd", log_photos)
    summary = ingest(tmp_path / "logs", tmp_path / "store")
    ((reason, count),) = summary.errors.items()
    assert (count, summary.values) == (1, COUNT + 1)
    assert ".rrd file cannot be read" in reason
    assert str(tmp_path) not in reason
    assert summary.examples[reason].endswith("/bad.rrd")
    assert_photos([frame for frame in frames_of(tmp_path / "store", summary) if not frame.error], range(COUNT))


def test_bytes_that_were_changed_never_end_the_job(tmp_path):
    whole = written(tmp_path / "a.rrd", log_photos).read_bytes()
    rng = np.random.default_rng(0)
    kept = []
    for number in range(12):
        damaged = bytearray(whole)
        start = int(rng.integers(100, len(whole) - 100))
        damaged[start : start + 60] = rng.bytes(60)
        (tmp_path / "a.rrd").write_bytes(damaged)
        summary = ingest(tmp_path / "a.rrd", tmp_path / str(number))
        frames = frames_of(tmp_path / str(number), summary)
        good = [frame for frame in frames if frame.error is None and 0 <= frame.times.get("frame", -1) < COUNT]
        kept.append(sum(np.array_equal(frame.source(), PHOTOS[frame.times["frame"]]) for frame in good))
        assert summary.errors or kept[-1] >= COUNT - 2
    assert sum(kept) > 12 * COUNT / 4


JOB = """
import sys
from lumatile_service.batch import ingest
from lumatile_service.batch.engine.call_logger import CallLogger

before = CallLogger.log
def do(self, call, recording):
    before(self, call, recording)
    recording.flush()
    sys.stdout.write(f"{call.member}\\n")
    sys.stdout.flush()
CallLogger.log = do
ingest(sys.argv[1], sys.argv[2], threads=2)
"""


def test_killed_the_next_run_stores_what_is_missing_once(tmp_path):
    path, store = written(tmp_path / "killed.rrd", log_photos), tmp_path / "store"
    durable = set()
    for more in (4, 9):
        with subprocess.Popen([sys.executable, "-c", JOB, path, store], stdout=subprocess.PIPE, text=True) as process:
            for _ in range(len(durable) + more):
                durable.add(process.stdout.readline().strip())
            process.send_signal(signal.SIGKILL)
            durable.update(line.strip() for line in process.stdout if line.endswith("\n"))
    assert 5 < len(durable) < COUNT
    summary = ingest(path, store)
    assert (summary.values, summary.errors) == (COUNT, {})
    assert summary.logged + summary.stored_before == COUNT
    assert summary.stored_before >= len(durable)
    frames = frames_of(store, summary)
    assert len(frames) == COUNT
    assert_photos(frames, range(COUNT))
    assert verify(store).ok


def test_a_recording_in_a_bucket_is_read_as_one_on_disk(tmp_path, monkeypatch):
    server = S3Server()
    try:
        for name, value in {"ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "REGION": "us-east-1"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        server.create_bucket("bucket-rerun")
        content = written(tmp_path / "a.rrd", log_photos).read_bytes()
        for name, body in (("a.rrd", content), ("cut.rrd", content[: len(content) // 2])):
            url = f"http://127.0.0.1:{server.port}/bucket-rerun/sets/{name}"
            kind = {"Content-Type": "application/octet-stream"}
            urllib.request.urlopen(urllib.request.Request(url, body, kind, method="PUT")).close()
        summary = ingest("s3://bucket-rerun/sets/a.rrd", tmp_path / "store")
        assert_photos(frames_of(tmp_path / "store", summary), range(COUNT))
        cut = ingest("s3://bucket-rerun/sets/cut.rrd", tmp_path / "store")
        assert sum(cut.errors.values()) == 1
        assert COUNT // 4 < cut.values < COUNT
    finally:
        server.close()


MEMORY = """
import re, sys
from lumatile_service.batch.formats.rerun import reader as rerun_rrd
from lumatile_service.batch.source_files import SourceFiles
calls = iter(rerun_rrd.read(SourceFiles(sys.argv[1])))
total = sum(len(next(calls).read()) for _ in range(int(sys.argv[2])))
print(total, re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
"""


def test_a_large_file_is_not_held_in_memory(tmp_path):
    big = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)

    def log(recording):
        for frame in range(100):
            recording.set_time("frame", sequence=frame)
            recording.log("big", rr.Image(np.roll(big, frame, 0)))

    path = written(tmp_path / "big.rrd", log)
    assert path.stat().st_size > 850 << 20
    command = [sys.executable, "-c", MEMORY, path, "100"]
    total, peak_kb = map(int, subprocess.check_output(command, text=True).split())
    assert total == 100 * big.nbytes
    assert peak_kb < 500 << 10


def test_without_rerun_sdk_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = written(tmp_path / "a.rrd", log_photos)
    for name in [name for name in sys.modules if name.split(".")[0] == "rerun"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(InvalidValueError, match=r"install lumatile\[rerun\]"):
        ingest(path, tmp_path / "store")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("/a/b", "a/b"),
        (r"/a\ b/c\-d", "a b/c-d"),
        ("/", ""),
        (r"/a\/b/c", "a%2Fb/c"),
        ("/a/../b", "a/%2E%2E/b"),
        (r"/a\nb", "a%0Ab"),
        ("/a.b/.", "a.b/%2E"),
        (r"/\u{2764}/x\\y", "❤/x\\y"),
    ],
)
def test_entity_paths_lose_their_backslashes(theirs, ours):
    assert rerun_rrd.unescaped(theirs) == ours


@pytest.mark.parametrize("part", ["a b", "ü€", "x-y_z", "(1)", "100%", "a.b,c;d", "quote'\"", "back\\slash", "#~$&"])
def test_entity_paths_come_back_from_rerun(tmp_path, part):
    path = written(tmp_path / "a.rrd", lambda recording: recording.log([part, "x"], rr.Image(PHOTOS[0])))
    (call,) = rerun_rrd.read(SourceFiles(path))
    assert call.entity_path == f"{part}/x"


def test_the_commands_say_what_they_do(tmp_path):
    def log(recording):
        log_photos(recording)
        recording.log("robot", rr.Transform3D(translation=[1, 2, 3]))

    path, store = written(tmp_path / "drive.rrd", log), str(tmp_path / "store")
    plan = CliRunner().invoke(app, ["ingest", str(path), "--store", store, "--dry-run"])
    assert plan.exit_code == 0
    assert "format rerun: 30 values" in plan.output
    done = CliRunner().invoke(app, ["ingest", str(path), "--store", store, "--recording", "drive"])
    assert done.exit_code == 0, done.output
    back = CliRunner().invoke(app, ["export", store, "drive", str(tmp_path / "back.rrd")])
    assert back.exit_code == 0, back.output
    assert len(rows(tmp_path / "back.rrd")["/camera"]) == COUNT
    command = [sys.executable, "-m", "rerun", "rrd", "verify", tmp_path / "back.rrd"]
    verified = subprocess.run(command, check=True, capture_output=True, text=True, env=quiet_env())
    assert "verified without error" in verified.stdout + verified.stderr
