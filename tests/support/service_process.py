"""A `lumatile serve` of a test's own, and processes that log to it what the oracle of flight_service.py knows."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from tests.support.ports import free_port

from lumatile_service.cli.status import ask

MAIN = "from lumatile_service.cli import main; main()"

LOGGER = """
import os, sys, time
import numpy as np
import lumatile as lt

url, worker, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
lt.init("service", "run", sink=url, strict=True, max_block=90.0)


def durable():
    deadline = time.monotonic() + 90
    while True:
        try:
            return lt.flush(timeout=5.0)
        except lt.FlushError as e:
            if time.monotonic() > deadline:
                raise


i = 0
while i < last or (last < 0 and not os.path.exists(sys.argv[4])):
    lt.set_time_sequence("i", i)
    lt.log_image(f"w/{worker}", np.random.default_rng([worker, i]).integers(0, 256, (40, 60, 3), np.uint8))
    i += 1
    if i % 10 == 0 or i == last:
        durable()
        print(i, flush=True)  # acknowledged: everything before
durable()
print(i, flush=True)
"""
"""Logs images that worker and number decide; says how many are acknowledged. last < 0: until a file is there."""


def wait_until(what, seconds=60.0):
    """Poll until `what()` is true, and give it."""
    deadline = time.monotonic() + seconds
    while not (result := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
    return result


class Lines:
    """What a process says on stdout, as it comes."""

    def __init__(self, process):
        self.lines = []
        self._thread = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._thread.start()

    def _read(self, stdout):
        for line in stdout:
            self.lines.append(line.rstrip("\n"))

    def end(self):
        """All of them, when the process has ended."""
        self._thread.join(10)
        return self.lines


class Process:
    """A process of a test, with everything it starts."""

    def __init__(self, arguments, errors, env=None):
        self.errors = errors
        self.started = []
        with errors.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )
        self.out = Lines(self.process)

    def first_line(self, seconds=60.0):
        """What it says first."""
        wait_until(lambda: self.out.lines or self.process.poll() is not None, seconds)
        assert self.out.lines, self.errors.read_text()
        return self.out.lines[0]

    def wait(self, seconds=90.0):
        """Its exit code."""
        return self.process.wait(seconds)

    def descendants(self):
        """What it has started, and they."""
        self.started = psutil.Process(self.process.pid).children(recursive=True)
        return self.started

    def clean(self):
        """Leave nothing of it behind."""
        if self.process.poll() is None:
            self.descendants()
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for other in self.started:
            with suppress(psutil.NoSuchProcess):
                other.kill()  # psutil looks whether the id is still that process's
        self.process.stdin.close()
        self.out.end()
        self.process.stdout.close()


class Service(Process):
    """A running `lumatile serve`."""

    def __init__(self, directory, *arguments, port=None, env=None):
        self.store = directory / "store"
        self.port = port or free_port()
        self.url = f"grpc://127.0.0.1:{self.port}"
        errors = directory / f"serve-{time.monotonic_ns()}.err"
        super().__init__(
            ["-c", MAIN, "serve", "--store", self.store, "--listen", f"127.0.0.1:{self.port}", *arguments], errors, env
        )
        self.line = self.first_line()

    def actors(self):
        """Those that answer, by name."""
        return {actor["name"]: actor for actor in ask(self.url)["actors"] if "error" not in actor}

    def kill(self, *, alone=False):
        """kill -9 of it and all it has started; or of it `alone`: its actors end by themselves."""
        actors = [psutil.Process(actor["pid"]) for actor in self.actors().values()]
        others = self.descendants()
        self.process.kill()
        for other in [] if alone else others:
            with suppress(psutil.NoSuchProcess):
                other.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(actors if alone else others, timeout=30)
        assert alive == []

    def stop(self, number=signal.SIGTERM, *, group=False):
        """Tell it to stop; give its exit code, when everything it started has ended too."""
        others = self.descendants()
        (os.killpg if group else os.kill)(self.process.pid, number)
        code = self.wait()
        _, alive = psutil.wait_procs(others, timeout=10)
        assert alive == []
        return code


@contextmanager
def short_directory():
    """A directory for a Ray: its sockets must have short paths."""
    directory = Path(tempfile.mkdtemp(prefix="lt-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def status_of(url):
    """`lumatile status --json`, as a process: exit code, report."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "status", "--url", url, "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, json.loads(done.stdout or "null"), done.stderr
