"""The memory of a process that logs ten times the capacity of the queue."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil

from benchmarks.harness.frames import HEIGHT_4K, WIDTH_4K, photos
from benchmarks.harness.options import Options
from benchmarks.harness.recording import recording_into
from benchmarks.harness.scratch import scratch
from benchmarks.harness.table import Bar, Table
from lumatile.write.writer import SEGMENT_BYTES

QUEUE_BYTES = 2**28
TIMES = 10


def measure(options: Options) -> list[Table]:
    """Return the table of memory, which is measured in a separate process."""
    times = 3 if options.quick else TIMES
    with scratch(options.disk) as folder:
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", str(folder), str(times)],
            check=True,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )
    result = json.loads(child.stdout)
    bound = QUEUE_BYTES + 2 * SEGMENT_BYTES
    grown = result["peak"] - result["before"]
    return [
        Table(
            title="Memory",
            columns=("logged MB", "frames", "before MB", "peak MB", "grown MB", "queue + two segments MB"),
            rows=[
                [
                    result["logged"] / 1e6,
                    result["frames"],
                    result["before"] / 1e6,
                    result["peak"] / 1e6,
                    grown / 1e6,
                    bound / 1e6,
                ]
            ],
            notes=[
                f"3840x2160 RGB, linear, {times} times a queue of {QUEUE_BYTES >> 20} MiB, as fast as it takes them.",
                "Resident memory. Before: imports, the frames to log, a small image logged; peak: the high-water mark.",
            ],
            bars=[Bar(promise="grown, in queue + two segments", value=grown / bound, limit=1.0)],
        )
    ]


def _log(folder: Path, times: int) -> dict[str, int]:
    frames = photos(HEIGHT_4K, WIDTH_4K, 2)
    count = times * QUEUE_BYTES // frames[0].nbytes + 1
    with recording_into(folder, queue_bytes=QUEUE_BYTES, max_block=None) as recording:
        recording.log_image("camera/rgb", photos(300, 300, 1)[0])
        recording.flush()
        # a new high-water mark: numba's compiler needs more than what it compiles
        Path("/proc/self/clear_refs").write_text("5")
        before = psutil.Process().memory_info().rss
        for number in range(count):
            recording.log_image("camera/rgb", frames[number % 2])
        recording.flush()
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return {"logged": count * frames[0].nbytes, "frames": count, "before": before, "peak": int(peak.split()[1]) << 10}


if __name__ == "__main__":
    print(json.dumps(_log(Path(sys.argv[1]), int(sys.argv[2]))))
