"""Memory of a process that logs, and of a server, when values come much faster than they can be stored."""

import threading
import time

import numpy as np
import psutil
import pytest
from tests.support.flight_service import Child, Server, fresh, poll, quiet

import lumatile as lt
from lumatile.read.verify import verify

pytestmark = pytest.mark.alone

QUEUE = 16 << 20
"""Bound of either queue, in bytes."""

SLACK = 16 << 20
"""What the heap of a process that logs may take beside its queue."""

WORK = 256 << 20
"""What a server may take beside its queue: tiles that wait to be written, buffers that are kept, what gRPC has read.

It does not grow with what is sent: 1.2 GB were there with a queue of 1 GiB.
"""


class Peak:
    """Most memory that a process has while the block runs, over what it had before, in bytes."""

    def __init__(self, pid):
        self.process = psutil.Process(pid)
        self.before = self.peak = self.process.memory_info().rss
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.stop.wait(0.01):
            self.peak = max(self.peak, self.process.memory_info().rss)

    @property
    def nbytes(self):
        return self.peak - self.before

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


FAST = f"""
import sys, time
import numpy as np, lumatile as lt, psutil

recording = lt.new_recording("app", "run", sink=sys.argv[1], queue_bytes={QUEUE}, max_block=None)
frames = np.random.default_rng(0).integers(0, 256, (2, 540, 960, 3), np.uint8)
recording.log_image("i", frames[0])
recording.flush(60)
before = peak = psutil.Process().memory_info().rss
calls = []
began = time.monotonic()
for i in range(60):  # 93 MB
    called = time.monotonic()
    recording.log_image("i", frames[i % 2])
    calls.append(time.monotonic() - called)
    peak = max(peak, psutil.Process().memory_info().rss)
recording.flush(100)
print(peak - before)
print((time.monotonic() - began) / (60 * sorted(calls)[15]))  # a quarter of the calls, and more, found room
"""


def test_memory_is_bounded_when_a_producer_is_ten_times_too_fast(tmp_path):
    with Server(tmp_path, ingest={"queue_bytes": QUEUE}) as server, Peak(server.pid) as peak:
        with Child([FAST, server.url]) as child:
            nbytes, too_fast = child.end()
            assert child.process.returncode == 0, child.state()
        assert float(too_fast) > 10
        assert int(nbytes) < QUEUE + SLACK
        assert peak.nbytes < QUEUE + WORK
    assert len(lt.open_store(tmp_path).recording("run").frames("i")) == 61


DEAF = """
import sys
from dataclasses import replace
import numpy as np, lumatile as lt
from lumatile.sink.memory import VALUES
from lumatile.format.schema import LOG
from lumatile.wire.encoding import encode
from tests.support.flight_hand import Hand

recording = lt.new_recording("app", "run", sink="memory://values")
recording.log_image("i", np.random.default_rng(0).integers(0, 256, (540, 960, 3), np.uint8))
recording.flush()
(value,) = VALUES["values"]
with Hand(sys.argv[1]) as client:
    client.writer.begin(LOG)
    for seq in range(1000):  # 1.5 GB, which nothing but the server holds back
        client.writer.write_batch(next(encode([replace(value, seq=seq)])))
        print(seq, flush=True)
"""


def test_memory_of_a_server_is_bounded_when_a_client_does_not_wait_for_acknowledgements(tmp_path):
    with Server(tmp_path, ingest={"queue_bytes": QUEUE}) as server:
        with Peak(server.pid) as peak, Child([DEAF, server.url]) as child:
            child.line(20)
            began, first = time.monotonic(), child.said()
            poll(lambda: time.monotonic() > began + 5)
            assert child.process.poll() is None
            assert child.said() > first, "it is held back, not stopped"
            said = child.said()
        assert peak.nbytes < QUEUE + WORK
        assert said < 600, "it is held back"
        poll(lambda: quiet(tmp_path))
        fresh(tmp_path, server.url)
    assert verify(tmp_path).ok
    pixels = np.random.default_rng(0).integers(0, 256, (540, 960, 3), np.uint8)
    frames = lt.open_store(tmp_path).recording("run").frames("i")
    assert 20 < len(frames) <= said + 20
    for frame in frames[::10]:
        np.testing.assert_array_equal(frame.source(), pixels)
