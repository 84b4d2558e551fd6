"""Flight servers and logging processes of a test's own, and the one oracle for what faults may leave behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress

import numpy as np
import psutil
import pyarrow as pa
from tests.support.ports import free_port

import lumatile as lt
from lumatile.read.verify import verify

NO_PICKLE = """
import os, sys


def _no_pickle(event, arguments):
    if event == "pickle.find_class":
        os.write(2, f"unpickled {arguments}".encode())
        os._exit(77)


"""
"""What is received is never unpickled: a process that does so ends."""

SERVER = f"""
{NO_PICKLE}
import faulthandler, json, logging
from pathlib import Path
from lumatile.wire.decoding import Limits
from lumatile_kernels import select_backend
from lumatile_service.ingest.flight_server import IngestServer
from lumatile_service.ingest.recordings import Ingest
from lumatile_service.ingest.tokens import TokenFile, token_middleware

sys.addaudithook(_no_pickle)
faulthandler.enable()
logging.basicConfig(level=logging.INFO)
store, location, options = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
store.mkdir(parents=True, exist_ok=True)
tokens = TokenFile(Path(options["token_file"])) if options["token_file"] else None
ingest = Ingest(store, lambda: select_backend("numpy"), **options["ingest"])
limits = Limits(**options["limits"])
server = IngestServer(location, ingest, limits=limits, middleware=token_middleware(tokens))
print(server.port, flush=True)
server.serve()
"""

LOGGER = (
    NO_PICKLE
    + """
import faulthandler, time, warnings
import numpy as np
import lumatile as lt

sys.addaudithook(_no_pickle)
faulthandler.enable()
url, recording, worker, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
warnings.simplefilter("ignore")
rec = lt.new_recording("flight", recording, sink=url, max_block=None)
i = 0
while i != last:
    rec.set_time_sequence("i", i)
    rec.log_image(f"w/{worker}", np.random.default_rng([worker, i]).integers(0, 256, (40, 60, 3), np.uint8))
    i += 1
    if i % 5 == 0 or i == last:
        deadline = time.monotonic() + 60
        while True:
            try:
                rec.flush(timeout=10)
                break
            except lt.FlushError:
                assert time.monotonic() < deadline
        print(i, flush=True)  # everything before is acknowledged
"""
)


def image(worker, i):
    """What LOGGER logs."""
    return np.random.default_rng([worker, i]).integers(0, 256, (40, 60, 3), np.uint8)


def poll(what, seconds=30.0, *, else_show=lambda: ""):
    """Wait until `what()` is true, and give it; `else_show`: gives what a failure is told with."""
    deadline = time.monotonic() + seconds
    while not (result := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s\n{else_show()}"
        time.sleep(0.01)
    return result


class Child:
    """A process; what it says is read as it comes. It is killed at the end of the block."""

    def __init__(self, command, *, prefix=(), env=None):
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"LUMATILE_SPOOL": "off", **os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(env or {})},
        )
        self.pid = self.process.pid
        self.lines, self.errors = [], []
        self._readers = [
            threading.Thread(target=self._read, args=stream, daemon=True)
            for stream in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, lines):
        for line in stream:
            lines.append(line.rstrip("\n"))

    def line(self, number=0, seconds=30.0):
        """Something it said."""
        poll(lambda: len(self.lines) > number or self.process.poll() is not None, seconds)
        assert len(self.lines) > number, "\n".join(self.errors)
        return self.lines[number]

    def says(self, words, seconds=30.0):
        """Wait until an error of it has these words."""
        poll(lambda: any(words in line for line in self.errors), seconds, else_show=self.state)

    def state(self):
        """How it is doing, for a failure's message."""
        return "\n".join([f"returncode {self.process.poll()}, {len(self.lines)} lines", *self.errors])

    def said(self):
        """The last thing it said."""
        return int(self.lines[-1]) if self.lines else 0

    def kill(self):
        """kill -9, also of what it started; gives what it said."""
        for each in [*psutil.Process(self.pid).children(recursive=True), self.process]:
            each.kill()
        return self.end()

    def end(self, seconds=60.0):
        """Wait for its end; gives what it said."""
        self.process.wait(seconds)
        for reader in self._readers:
            reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()
        return self.lines

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()
        elif not self.process.stdout.closed:
            self.end()


class Server(Child):
    """A Flight server in front of a store.

    `limits`, `ingest`: arguments of Limits and Ingest.
    """

    def __init__(self, store, *, host="127.0.0.1", port=0, limits=None, ingest=None, token_file=None, prefix=()):
        ingest = {"queue_bytes": 1 << 26, **(ingest or {})}
        options = {"limits": limits or {}, "ingest": ingest, "token_file": token_file and str(token_file)}
        address = f"grpc://{host}:{port or free_port()}"  # a test may start another one at the same port
        super().__init__([SERVER, store, address, json.dumps(options)], prefix=prefix)
        self.port = int(self.line())
        self.url = f"grpc://{host}:{self.port}"


def logger(url, worker=0, last=-1, *, recording="run", prefix=(), env=None):
    """A process that logs images, -1: without an end."""
    return Child([LOGGER, url, recording, worker, last], prefix=prefix, env=env)


def visible(store, recording="run"):
    """Segment -> its frames rows, by Arrow alone."""
    tables = {}
    for path in (store / recording / "frames").glob("[!.]*.arrow"):
        with pa.OSFile(str(path)) as file, suppress(FileNotFoundError):
            tables[path.stem.partition("-")[0]] = pa.ipc.open_file(file).read_all()
    hidden = {name for t in tables.values() for name in json.loads(t.schema.metadata[b"lumatile.replaces"])}
    return {segment: table for segment, table in tables.items() if segment not in hidden}


def stored_keys(store, recording="run"):
    """(producer, seq) -> how often it is in visible segments."""
    keys = Counter()
    for table in visible(store, recording).values():
        keys.update(zip(*(table[name].to_pylist() for name in ("producer", "seq")), strict=True))
    return keys


def quiet(store):
    """Nothing has come for a while, not even a segment that was open."""
    before = stored_keys(store)
    time.sleep(0.7)
    return stored_keys(store) == before


def check(store, acknowledged, *, url=None, recording="run", races=0):
    """The oracle: what was acknowledged, worker -> count, is there once; all that is there was sent; bytes are equal.

    At the server `url` a fresh value flows. `races`: keys that two servers may have stored.
    """
    report = verify(store)
    assert report.ok, [str(problem) for problem in report.problems]
    keys = stored_keys(store, recording)
    assert report.duplicates <= races
    assert sum(keys.values()) - len(keys) <= races
    read = lt.open_store(store).recording(recording)
    seen = 0
    for path in read.entities():
        worker = int(path.partition("/")[2])
        frames = read.frames(path)
        numbers = [frame.times["i"] for frame in frames]
        assert len(numbers) == len(set(numbers))
        assert set(range(acknowledged.get(worker, 0))) <= set(numbers), f"{path}: {acknowledged[worker]}, {numbers}"
        for frame in frames:
            np.testing.assert_array_equal(frame.source(), image(worker, frame.times["i"]))
        seen += len(frames)
    assert seen == len(keys) >= sum(acknowledged.values())
    if url is not None:
        fresh(store, url)


def fresh(store, url, recording="fresh"):
    """A new value gets through."""
    rec = lt.new_recording("flight", recording, sink=url)
    rec.set_time_sequence("i", 0)
    rec.log_image("w/0", image(0, 0))
    assert rec.flush(30) == "store"
    rec.disconnect(timeout=10)
    np.testing.assert_array_equal(lt.open_store(store).recording(recording).frames("w/0")[-1].source(), image(0, 0))


def stored_tiles(store, recording):
    """(seq, plane, level, x, y) -> payload as stored."""
    tiles = {}
    for segment, frames in visible(store, recording).items():
        seqs = frames["seq"].to_pylist()
        with pa.memory_map(str(store / recording / "tiles" / f"{segment}.arrow")) as source:
            for row in pa.ipc.open_file(source).read_all().to_pylist():
                tiles[seqs[row["frame"]], row["plane"], row["level"], row["x"], row["y"]] = row["payload"]
    return tiles


def settings_of(store, recording):
    """The settings that a recording was stored with."""
    table = next(iter(visible(store, recording).values()))
    return json.loads(table.schema.metadata[b"lumatile.settings"])
