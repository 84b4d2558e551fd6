"""The call of log_image while the queue has room, compared with a copy of the array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

import lumatile as lt
from benchmarks.harness.frames import HEIGHT_4K, HEIGHT_HD, WIDTH_4K, WIDTH_HD, photos
from benchmarks.harness.options import Options
from benchmarks.harness.recording import recording_into
from benchmarks.harness.rounds import Contender, Timings, clock, take_turns
from benchmarks.harness.scratch import scratch
from benchmarks.harness.table import Bar, Cell, Table

ROUNDS = 24
FIXED = 200e-6
"""The seconds that a call may take in addition to two copies."""
SIZES = ((HEIGHT_4K, WIDTH_4K), (HEIGHT_HD, WIDTH_HD), (480, 640), (64, 64))
LOG, COPY = "log_image", "np.copyto"


def measure(options: Options) -> list[Table]:
    """Return the table of calls."""
    rows: list[list[Cell]] = []
    bars: list[Bar] = []
    seconds: dict[str, Sequence[float]] = {}
    for height, width in SIZES:
        image = photos(height, width, 1)[0]
        target = image.copy()
        with (
            scratch(options.disk) as folder,
            recording_into(folder, queue_bytes=2**30) as recording,
        ):
            turns = take_turns(
                [
                    Contender(name=COPY, run=clock(partial(np.copyto, target, image))),
                    Contender(name=LOG, run=_flushed(recording, image)),
                ],
                options.rounds(ROUNDS),
            )
        name = f"{width}x{height} RGB"
        rows.append([name, turns.median(LOG) * 1e6, turns.median(COPY) * 1e6, turns.ratio(LOG, COPY)])
        asked = {COPY: [2 * s + FIXED for s in turns.seconds[COPY]], LOG: turns.seconds[LOG]}
        bars.append(
            Bar(
                promise=f"log_image of {name}, times what is allowed (2 copies + 200 us)",
                value=Timings(seconds=asked).ratio(LOG, COPY),
                limit=1.0,
            )
        )
        seconds |= {f"{name}, {contender}": s for contender, s in turns.seconds.items()}
    return [
        Table(
            title="The log_image call",
            columns=("image", "log_image us", "copy us", "times a copy"),
            rows=rows,
            notes=["Into a store on disk, the queue empty before each call; copy: np.copyto into warm memory."],
            bars=bars,
            seconds=seconds,
        )
    ]


def _flushed(recording: lt.RecordingStream, image: NDArray[np.uint8]) -> Callable[[], float]:
    log = clock(lambda: recording.log_image("camera/rgb", image))

    def run() -> float:
        seconds = log()
        recording.flush()
        return seconds

    return run
