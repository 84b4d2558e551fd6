"""A service over loopback compared with the embedded sink, and the log call while the service is up and down."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import lumatile as lt
from benchmarks.harness.frames import HEIGHT_HD, WIDTH_HD, photos
from benchmarks.harness.options import Options
from benchmarks.harness.rounds import Contender, Timings, clock, take_turns
from benchmarks.harness.scratch import scratch
from benchmarks.harness.table import Bar, Table
from lumatile_service.cluster.malloc import MALLOC

ROUNDS = 8
FRAMES = 12
REPEATS = 4
FIXED = 200e-6
"""The seconds that a log call may take in addition to two copies."""
EMBEDDED, SERVICE = "embedded sink", "service, over loopback"
UP, AWAY, COPY = "service up", "service away", "np.copyto"

SERVER = """
import sys
from pathlib import Path
from lumatile_kernels import select_backend
from lumatile_service.ingest.flight_server import IngestServer
from lumatile_service.ingest.recordings import Ingest

server = IngestServer("grpc://127.0.0.1:0", Ingest(Path(sys.argv[1]), lambda: select_backend("auto")))
print(server.port, flush=True)
server.serve()
"""


def measure(options: Options) -> list[Table]:
    """Return the tables of durable frames and of calls."""
    os.environ["LUMATILE_SPOOL"] = "off"  # what it costs is its own benchmark's business
    with scratch(options.disk) as folder, _server(folder / "service") as url:
        return [_durable(options, folder, url), _calls(options, url)]


@contextlib.contextmanager
def _server(store: Path) -> Iterator[str]:
    """Start a server process, and give its URL."""
    store.mkdir()
    command = [sys.executable, "-c", SERVER, str(store)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | MALLOC)
    try:
        assert process.stdout is not None
        yield f"grpc://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


def _durable(options: Options, folder: Path, url: str) -> Table:
    frames = photos(HEIGHT_HD, WIDTH_HD, FRAMES) * (1 if options.quick else REPEATS)
    nbytes = sum(frame.nbytes for frame in frames)
    turns = take_turns(
        [
            Contender(name=name, run=partial(_log, frames, sink, store), warm_bytes=6 * nbytes)
            for name, sink, store in (
                (EMBEDDED, str(folder / "embedded"), folder / "embedded"),
                (SERVICE, url, folder / "service"),
            )
        ],
        options.rounds(ROUNDS),
    )
    return Table(
        title="1920x1080 RGB to durable tiles",
        columns=("sink", "frames/s", "logged MB/s", "of the embedded sink's rate"),
        rows=[
            [
                name,
                len(frames) / turns.median(name),
                nbytes / 1e6 / turns.median(name),
                turns.ratio(EMBEDDED, name),
            ]
            for name in (EMBEDDED, SERVICE)
        ],
        notes=[
            f"{len(frames)} frames into a new recording, to the flush that says they are durable; one server process."
        ],
        bars=[
            Bar(
                promise="service, of the embedded sink's rate",
                value=turns.ratio(EMBEDDED, SERVICE),
                limit=0.6,
                at_least=True,
            )
        ],
        seconds=turns.seconds,
    )


def _log(frames: Sequence[NDArray[np.uint8]], sink: str, store: Path) -> float:
    """Return the seconds until the frames are durable."""
    recording = lt.new_recording("benchmark", sink=sink, max_block=None)

    def log() -> None:
        for frame in frames:
            recording.log_image("camera/rgb", frame)
        recording.flush()

    seconds = clock(log)()
    recording.disconnect()
    shutil.rmtree(store / recording.recording_id)
    os.sync()
    return seconds


def _calls(options: Options, url: str) -> Table:
    image = photos(HEIGHT_HD, WIDTH_HD, 1)[0]
    target = image.copy()
    up = lt.new_recording("benchmark", sink=url, queue_bytes=2**30)
    away = lt.new_recording("benchmark", sink="grpc://127.0.0.1:1", queue_bytes=2**30)
    turns = take_turns(
        [
            Contender(name=COPY, run=clock(partial(np.copyto, target, image))),
            Contender(name=UP, run=_call(up, image)),
            Contender(name=AWAY, run=_call(away, image)),
        ],
        options.rounds(24),
    )
    up.disconnect()
    with contextlib.suppress(lt.FlushError):
        away.disconnect(timeout=0)
    allowed = [2 * s + FIXED for s in turns.seconds[COPY]]
    return Table(
        title="The log_image call of 1920x1080 RGB, into a service",
        columns=("service", "log_image us", "times a copy"),
        rows=[[name, turns.median(name) * 1e6, turns.ratio(name, COPY)] for name in (UP, AWAY, COPY)],
        notes=["The queue has room; without a spool."],
        bars=[
            Bar(
                promise=f"{name}: log_image, times what is allowed (2 copies + 200 us)",
                value=Timings(seconds={"is": turns.seconds[name], "allowed": allowed}).ratio("is", "allowed"),
                limit=1.0,
            )
            for name in (UP, AWAY)
        ],
        seconds=turns.seconds,
    )


def _call(recording: lt.RecordingStream, image: NDArray[np.uint8]) -> Callable[[], float]:
    log = clock(lambda: recording.log_image("camera/rgb", image))

    def run() -> float:
        seconds = log()
        with contextlib.suppress(lt.FlushError):
            recording.flush(0.2)
        return seconds

    return run
