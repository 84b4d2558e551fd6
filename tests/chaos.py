"""Processes of a service and its clients are killed again and again: `python -m tests.chaos --sdk N --server N`.

The oracle is that of the tests: every acknowledged value is in the store once, every stored value was sent, its bytes
are equal, and a fresh value flows afterwards.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tests.flight_service import Server, check, logger, poll, quiet

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


def kill_servers(store, kills, rng):
    """kill -9 of the server, and a restart on its port, while processes log; gives what was acknowledged, waits."""
    server = Server(store)
    port = server.port
    processes = [logger(server.url, worker) for worker in range(2)]
    waits = []
    try:
        for _ in range(kills):
            said = [process.said() for process in processes]
            began = time.monotonic()
            poll(lambda said=said: all(p.said() > n for p, n in zip(processes, said, strict=True)), 60)
            waits.append(time.monotonic() - began)
            time.sleep(rng.uniform(0, 0.2))
            server.kill()
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
    return sum(acknowledged.values()), waits


def say(line):
    """At once, also into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main():
    """Both loops; says what happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--sdk", type=int, default=1000, help="kills of processes that log (%(default)s)")
    parser.add_argument("--server", type=int, default=300, help="kills of the server (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        count = kill_loggers(Path(folder) / "sdk", arguments.sdk, rng)
        seconds = time.monotonic() - began
        say(f"{arguments.sdk} kills of logging processes, {count} values acknowledged, none lost: {seconds:.0f} s")
        began = time.monotonic()
        count, waits = kill_servers(Path(folder) / "server", arguments.server, rng)
        seconds = time.monotonic() - began
        say(
            f"{arguments.server} kills of the server, {count} values acknowledged, none lost: {seconds:.0f} s; "
            f"from a restart to the next acknowledgement {np.median(waits):.1f} s, at most {max(waits):.1f} s"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
