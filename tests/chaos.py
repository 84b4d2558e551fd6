"""Processes of a service and its clients are killed again and again: see --help.

The oracle is that of the tests: every acknowledged value is in the store once, every stored value was sent, its bytes
are equal, and a fresh value flows afterwards.
Longer than other files: the programs that are killed are in it.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import psutil
from tests.support.flight_service import Child, Server, check, image, logger, poll, quiet, stored_keys
from tests.support.service_process import Service
from tests.support.strace import NO_STRACE, faulty

import lumatile as lt

WORKERS = 4
"""Processes that log at the same time."""

SLOW = """
import sys, time
import numpy as np
import lumatile as lt

lt.init("chaos", sys.argv[2], sink=sys.argv[1])
rng = np.random.default_rng(int(sys.argv[2]))
lt.log_image("warm", np.zeros((480, 640, 3), np.uint8))
lt.flush()
while True:
    lt.log_image("image", np.zeros((480, 640, 3), np.uint8))
    print(time.time(), flush=True)
    time.sleep(rng.uniform(0.02, 0.2))
"""
"""Logs an image now and then, and says when the call has returned."""

POOL = """
import json, multiprocessing, os, signal, sys
import numpy as np
import lumatile as lt

sink, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
context = multiprocessing.get_context("fork")


def work(worker, say):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as a torch DataLoader's: no Python code runs when it is ended
    i = 0
    while True:
        lt.set_time_sequence("i", i)
        lt.log_image(f"w/{worker}", np.random.default_rng([worker, i]).integers(0, 256, (40, 60, 3), np.uint8))
        i += 1
        os.write(say, b".")


def started(worker):
    hear, say = os.pipe()
    process = context.Process(target=work, args=(worker, say), daemon=True)
    process.start()
    os.close(say)
    return process, hear


rng = np.random.default_rng(seed)
lt.init("flight", "run", sink=sink, max_block=None)
logged = {}
for first in range(0, kills, 4):
    group = {worker: started(worker) for worker in range(first, min(first + 4, kills))}
    for worker, (process, hear) in group.items():
        logged[worker] = 0
        for _ in range(int(rng.integers(1, 30))):
            logged[worker] += len(os.read(hear, 1))
        if first + 4 < kills:  # the last ones live when the script ends
            process.kill() if rng.random() < 0.5 else process.terminate()
            process.join()
            while said := os.read(hear, 4096):
                logged[worker] += len(said)
            os.close(hear)
    if rng.random() < 0.3:
        assert lt.flush() == "store"
print(json.dumps(logged))
"""
"""Forked workers log images that worker and number decide, and are ended at any moment; says how many it heard of."""


def kill_loggers(store, kills, rng):
    """kill -9 of processes that log, at any moment of theirs; gives what was acknowledged."""
    acknowledged = {}
    with Server(store) as server:
        for first in range(0, kills, WORKERS):
            workers = range(first, min(first + WORKERS, kills))
            processes = {worker: logger(server.url, worker) for worker in workers}
            for worker, process in processes.items():
                if rng.random() < 0.8:  # the others are killed before they have begun, perhaps
                    process.line(int(rng.integers(3)))
                time.sleep(rng.uniform(0, 0.1))
                process.kill()
                acknowledged[worker] = process.said()
        poll(lambda: quiet(store))
        check(store, acknowledged, url=server.url)
    return sum(acknowledged.values())


def windows(folder, kills, rng):
    """kill -9 of a process that logs now and then; gives the ages of the oldest lost values, in seconds, by sink."""
    folder.mkdir()
    ages = {"a store": [], "a service": []}
    with Server(folder / "service") as server:
        for kill in range(kills):
            for kind, store, sink in (
                ("a store", folder / "store", folder / "store"),
                ("a service", folder / "service", server.url),
            ):
                with Child([SLOW, sink, f"{kill}"]) as process:
                    process.line(int(rng.integers(3, 8)))
                    time.sleep(rng.uniform(0, 0.2))
                    killed = time.time()
                    times = [float(line) for line in process.kill()]
                poll(lambda store=store, run=f"{kill}": (store / run).exists())
                time.sleep(1)
                there = len(lt.open_store(store).recording(f"{kill}").frames("image"))
                ages[kind].append(killed - times[there] if there < len(times) else 0.0)
    return ages


def kill_workers(folder, kills, rng):
    """SIGTERM and SIGKILL of forked workers, by their parent; half of them log to a service. Gives what was logged."""
    folder.mkdir()
    logged = 0
    for name, share in (("store", kills - kills // 2), ("service", kills // 2)):
        store = folder / name
        with ExitStack() as stack:
            sink = store if name == "store" else stack.enter_context(Server(store)).url
            seed = int(rng.integers(1 << 30))
            parent = stack.enter_context(Child([POOL, sink, share, seed], env={"TMPDIR": str(folder)}))
            said = parent.end(60 + 10 * share)
            assert said, parent.state()
            counts = {int(worker): count for worker, count in json.loads(said[-1]).items()}
        check(store, counts)
        logged += sum(counts.values())
    left = list(folder.rglob("*.segment"))
    assert not left, left
    return logged


def fail_over(folder, kills):
    """kill -9 of the actor that a client uses, of two; gives the seconds from each to the end of the next flush."""
    folder.mkdir()
    service = Service(folder, "--actors", "2")
    waits, spooled = [], 0
    try:
        recording = lt.new_recording("flight", "run", sink=f"{service.url}?spool={folder / 'spool'}")
        for i in range(kills):
            recording.set_time_sequence("i", i)
            recording.log_image("w/0", image(0, i))
            assert recording.flush() == "store"
            actors = poll(lambda: len(found := service.actors()) == 2 and found, 60)
            used = [actor["pid"] for actor in actors.values() if actor["streams"]]
            time.sleep(1.5)
            for pid in used:
                psutil.Process(pid).kill()
            began = time.monotonic()
            recording.log_image("again", image(0, i))
            while recording.flush() != "store":
                spooled += 1
            waits.append(time.monotonic() - began)
            poll(lambda used=used: all(a["pid"] not in used for a in service.actors().values()), 60)
        recording.disconnect()
        service.stop()
    finally:
        service.clean()
    return waits, spooled


def kill_actors(folder, kills, rng):
    """kill -9 of actors of `lumatile serve`, while processes log; gives what was acknowledged, waits, stored twice."""
    folder.mkdir()
    service = Service(folder, "--actors", "2")
    processes = [logger(service.url, worker) for worker in range(2)]
    waits = []
    try:
        while len(waits) < kills:
            time.sleep(rng.uniform(0, 0.3))
            actors = poll(service.actors)
            pid = actors[rng.choice(sorted(actors))]["pid"]
            said = [process.said() for process in processes]
            with suppress(psutil.NoSuchProcess):  # it may be the one that was killed last
                psutil.Process(pid).kill()
                began = time.monotonic()
                poll(lambda said=said: all(p.said() > n for p, n in zip(processes, said, strict=True)), 60)
                waits.append(time.monotonic() - began)
        for process in processes:
            process.kill()
        acknowledged = {worker: process.said() for worker, process in enumerate(processes)}
        poll(lambda: quiet(service.store))
        keys = stored_keys(service.store)
        twice = sum(keys.values()) - len(keys)
        check(service.store, acknowledged, url=service.url, races=twice)
        service.stop()
    finally:
        for process in processes:
            process.__exit__()
        service.clean()
    return sum(acknowledged.values()), waits, twice


def kill_servers_at_every_call(store, commits):
    """SIGKILL of a server at every call of its first `commits` that changes a file; gives what was acknowledged, kills.

    The processes that log live on; so each server begins with what those before it have left.
    """
    server = Server(store)
    port = server.port
    processes = [logger(server.url, worker) for worker in range(2)]
    kills = 0
    try:
        poll(lambda: all(process.said() for process in processes), 60)
        server.kill()
        for call, each in (("fsync", 4), ("pwritev2", 2), ("ftruncate", 1), ("rename", 1), ("write", 4)):
            for when in range(1, each * commits + 1):
                with suppress(AssertionError):  # it was killed before it said its port
                    Server(store, port=port, prefix=faulty(call, "signal=KILL", when)).end(120)
                kills += 1
        server = Server(store, port=port)
        said = [process.said() for process in processes]
        poll(lambda: all(p.said() > n for p, n in zip(processes, said, strict=True)), 60)
        for process in processes:
            process.kill()
        acknowledged = {worker: process.said() for worker, process in enumerate(processes)}
        poll(lambda: quiet(store))
        check(store, acknowledged, url=server.url)
    finally:
        for process in (*processes, server):
            process.__exit__()
    return sum(acknowledged.values()), kills


def say(line):
    """At once, also into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main():
    """All loops; says what happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--sdk", type=int, default=1000, help="kills of processes that log (%(default)s)")
    parser.add_argument("--worker", type=int, default=100, help="kills of forked workers by their parent (%(default)s)")
    parser.add_argument("--window", type=int, default=20, help="kills of idle processes that log (%(default)s)")
    parser.add_argument("--failover", type=int, default=20, help="kills of the actor that a client uses (%(default)s)")
    parser.add_argument("--actor", type=int, default=300, help="kills of ingest actors (%(default)s)")
    parser.add_argument("--calls", type=int, default=5, help="commits, each killed at each call (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.sdk:
            began = time.monotonic()
            count = kill_loggers(Path(folder) / "sdk", arguments.sdk, rng)
            seconds = time.monotonic() - began
            say(f"{arguments.sdk} kills of logging processes, {count} values acknowledged, none lost: {seconds:.0f} s")
        if arguments.worker:
            began = time.monotonic()
            count = kill_workers(Path(folder) / "worker", arguments.worker, rng)
            seconds = time.monotonic() - began
            say(f"{arguments.worker} forked workers ended, {count} log calls returned, none lost: {seconds:.0f} s")
        if arguments.window:
            for kind, ages in windows(Path(folder) / "window", arguments.window, rng).items():
                say(
                    f"{arguments.window} kills of a process that logs to {kind}: the oldest value that was lost was "
                    f"logged {np.median(ages):.3f} s before (median), at most {max(ages):.3f} s"
                )
        if arguments.failover:
            waits, spooled = fail_over(Path(folder) / "failover", arguments.failover)
            say(
                f"{arguments.failover} kills of the actor in use, of two: from the kill to the end of the flush that "
                f"says store {np.median(waits):.2f} s, at most {max(waits):.2f} s; {spooled} flushes said spool"
            )
        if arguments.actor:
            began = time.monotonic()
            count, waits, twice = kill_actors(Path(folder) / "actor", arguments.actor, rng)
            seconds = time.monotonic() - began
            say(
                f"{arguments.actor} kills of actors, {count} values acknowledged, none lost, {twice} stored twice and "
                f"read once: {seconds:.0f} s; from a kill to the next acknowledgements {np.median(waits):.1f} s, "
                f"at most {max(waits):.1f} s"
            )
        if arguments.calls and NO_STRACE is None:
            began = time.monotonic()
            count, kills = kill_servers_at_every_call(Path(folder) / "calls", arguments.calls)
            seconds = time.monotonic() - began
            say(f"{kills} kills of a server at its calls, {count} values acknowledged, none lost: {seconds:.0f} s")
        elif arguments.calls:
            say(f"no kills at calls: {NO_STRACE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
