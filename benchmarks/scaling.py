"""More ingest actors: k processes log to k actors on k nodes of one Ray cluster; the cost of a gigabyte."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO

import psutil

from benchmarks.harness.frames import HEIGHT_HD, WIDTH_HD
from benchmarks.harness.options import Options
from benchmarks.harness.scratch import scratch
from benchmarks.harness.table import Bar, Table

ROUNDS = 6
FRAMES = 40
COUNTS = (1, 2, 4)
WITHIN = 1.15
"""The factor by which the CPU seconds per GB may differ between the numbers of actors."""

ACTORS = """
import json, sys
import ray
from ray.cluster_utils import Cluster

store, count = sys.argv[1], int(sys.argv[2])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
for _ in range(count):
    cluster.add_node(num_cpus=2)
ray.init(cluster.address, namespace="lumatile", logging_level="error", log_to_driver=False)
from lumatile_service.ingest.access import Access
from lumatile_service.cluster.ray_actors import IngestActors

actors = IngestActors(store, actors=count, host="127.0.0.1", advertise=None, ports=(0,), access=Access())
print(json.dumps(actors.statuses()), flush=True)
sys.stdin.read()
ray.shutdown()
cluster.shutdown()
"""

PRODUCER = """
import json, sys, time
import lumatile as lt
from benchmarks.harness.frames import HEIGHT_HD, WIDTH_HD, photos

url, worker, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
frames = photos(HEIGHT_HD, WIDTH_HD, 8)
for line in sys.stdin:
    cpu, start = time.process_time(), time.perf_counter()
    recording = lt.new_recording("benchmark", line.strip(), sink=url, max_block=None)
    for i in range(count):
        recording.log_image(f"camera/{worker}", frames[i % len(frames)])
    recording.flush()
    print(json.dumps([time.process_time() - cpu, time.perf_counter() - start]), flush=True)
    recording.disconnect()
"""


@dataclass(frozen=True, kw_only=True)
class ActorLoad:
    """The process of an ingest actor, and the producer that logs to it."""

    process: psutil.Process
    producer: subprocess.Popen[str]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of a round, in seconds."""

    actors: float
    producers: float
    wall: float


def measure(options: Options) -> list[Table]:
    """Return a table with a row for each number of actors."""
    frames = 8 if options.quick else FRAMES
    gigabytes = frames * HEIGHT_HD * WIDTH_HD * 3 / 1e9
    costs: dict[int, list[Cost]] = {k: [] for k in COUNTS}
    with scratch(options.disk) as folder, _actors(folder / "store", frames) as actors:
        for number in range(-1, options.rounds(ROUNDS)):  # the first does not count
            for k in COUNTS if number % 2 else reversed(COUNTS):
                cost = _round(actors if number < 0 else actors[:k], folder / "store", f"{number}-{k}")
                if number >= 0:
                    costs[k].append(cost)
    per_gb = {k: [(c.actors + c.producers) / (k * gigabytes) for c in costs[k]] for k in COUNTS}
    ratios = {k: median(a / b for a, b in zip(per_gb[k], per_gb[COUNTS[0]], strict=True)) for k in COUNTS}
    return [
        Table(
            title="1920x1080 RGB from k processes into k actors on k nodes, one recording",
            columns=("k", "CPU s/GB", "of it in actors", "to k = 1", "logged MB/s"),
            rows=[
                [
                    k,
                    median(per_gb[k]),
                    median(c.actors / (k * gigabytes) for c in costs[k]),
                    ratios[k],
                    median(1e3 * k * gigabytes / c.wall for c in costs[k]),
                ]
                for k in COUNTS
            ],
            notes=[
                f"{frames} frames a process, to the flush that says they are durable; a GB of logged pixels.",
                "Without a spool. CPU of the actors' processes and of those that log, not of Ray's own.",
                "All nodes are on this machine: MB/s is bounded by its cores whatever k is.",
            ],
            bars=[Bar(promise=f"k = {k}: CPU s/GB, to k = 1", value=ratios[k], limit=WITHIN) for k in COUNTS[1:]],
            seconds={f"k = {k}": [c.wall for c in costs[k]] for k in COUNTS},
        )
    ]


@contextlib.contextmanager
def _actors(store: Path, frames: int) -> Iterator[list[ActorLoad]]:
    """Start the greatest number of actors, each with its producer; they end with the block."""
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(_process([ACTORS, store, max(COUNTS)]))
        statuses = json.loads(_line(service.stdout))
        yield [
            ActorLoad(
                process=psutil.Process(status["pid"]),
                producer=stack.enter_context(_process([PRODUCER, status["address"], number, frames])),
            )
            for number, status in enumerate(statuses)
        ]


@contextlib.contextmanager
def _process(arguments: Sequence[object]) -> Iterator[subprocess.Popen[str]]:
    """Start a Python process that ends when its standard input is closed."""
    command = [sys.executable, "-c", *map(str, arguments)]
    environment = os.environ | {"LUMATILE_SPOOL": "off"}  # with one, what waits for its actor would go to the disk
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        process.communicate(timeout=60)


def _round(actors: Sequence[ActorLoad], store: Path, recording: str) -> Cost:
    """Let all producers log at the same time, and return the cost."""
    before = [_cpu(actor.process) for actor in actors]
    for actor in actors:
        assert actor.producer.stdin is not None
        actor.producer.stdin.write(recording + "\n")
        actor.producer.stdin.flush()
    answers = [json.loads(_line(actor.producer.stdout)) for actor in actors]
    after = [_cpu(actor.process) for actor in actors]
    shutil.rmtree(store / recording)
    return Cost(
        actors=sum(after) - sum(before),
        producers=sum(cpu for cpu, _ in answers),
        wall=max(wall for _, wall in answers),
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()
