"""Processes of a service and its clients are killed again and again: see --help.

The oracle is that of the tests: every acknowledged value is in the store once, every stored value was sent, its bytes
are equal, and a fresh value flows afterwards.
"""

import argparse
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from tests.support.flight_service import Server, check, logger, poll, quiet, stored_keys
from tests.support.service_process import Service
from tests.support.strace import NO_STRACE, faulty

WORKERS = 4
"""Processes that log at the same time."""


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
