"""`lumatile serve`, as it is run: real processes, a real Ray, real kills; what is acknowledged is stored once.

Longer than other files: its tests share the way in which a service is started and watched.
"""

import os
import re
import signal
import time
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

import lumatile as lt
from lumatile_service.cluster.malloc import MALLOC

pytest.importorskip("ray")

from tests.support.flight_service import check, stored_keys
from tests.support.ports import free_port
from tests.support.service_process import (
    LOGGER,
    Process,
    Service,
    short_directory,
    status_of,
    wait_until,
)

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[3]

CLUSTER = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
print(cluster.address, *(node.all_processes["raylet"][0].process.pid for node in nodes), flush=True)
sys.stdin.read()
cluster.shutdown()
"""

JOB = """
import sys
import numpy as np
import ray

ray.init(sys.argv[1], logging_level="error", log_to_driver=False)


@ray.remote(num_cpus=0)
def work(worker):
    import lumatile as lt

    recording = lt.new_recording("service", "run", sink="ray://lumatile", strict=True)
    for i in range(10):
        recording.set_time_sequence("i", i)
        pixels = np.random.default_rng([worker, i]).integers(0, 256, (40, 60, 3), np.uint8)
        recording.log_image(f"w/{worker}", pixels)
    where = recording.flush()
    recording.disconnect()
    return where


print(*ray.get([work.remote(worker) for worker in (7, 8)]), flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture
def ray_directory(monkeypatch):
    """Where the Rays of a test keep what they need."""
    with short_directory() as directory:
        monkeypatch.setenv("TMPDIR", str(directory))
        yield directory


@pytest.fixture
def start(ray_directory):
    """Start a process, which ends with the test at the latest."""
    started = []

    def start(kind, *arguments, **options):
        started.append(kind(*arguments, **options))
        return started[-1]

    yield start
    for process in reversed(started):
        process.clean()


@pytest.fixture
def log(start, tmp_path):
    """Start a process that logs to a service; `last` values, or until the file `enough` is there."""

    def log(url, worker, last=-1):
        errors = tmp_path / f"logger-{worker}.err"
        return start(Process, ["-c", LOGGER, url, worker, last, tmp_path / "enough"], errors)

    return log


def acknowledged(logger):
    """How many values are, when the process that logs has ended well."""
    assert logger.wait() == 0, logger.errors.read_text()
    return int(logger.out.end()[-1])


def test_processes_log_to_a_service_as_the_readme_says_and_sigterm_drains_it(start, log, tmp_path):
    service = start(Service, tmp_path, "--actors", "2")
    assert service.url in service.line
    actors = service.actors()
    assert sorted(actors) == ["lumatile-ingest-0", "lumatile-ingest-1"]
    assert all(actor["address"] in service.line for actor in actors.values())
    assert all(psutil.Process(actor["pid"]).environ().items() >= MALLOC.items() for actor in actors.values())

    loggers = {worker: log(service.url, worker, 60) for worker in (1, 2)}
    counts = {worker: acknowledged(logger) for worker, logger in loggers.items()}
    code, report, _ = status_of(service.url)
    assert code == 0
    assert sum(actor["acknowledged"]["values"] for actor in report["actors"]) == 120
    assert {actor["pending_values"] for actor in report["actors"]} == {0}

    (snippet,) = re.findall(r"```py\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert "lumatile serve --store runs\n" in (ROOT / "README.md").read_text()
    pasted = start(Process, ["-c", snippet.replace("127.0.0.1:9876", f"127.0.0.1:{service.port}")], tmp_path / "readme")
    assert pasted.wait() == 0, pasted.errors.read_text()
    assert len(lt.open_store(service.store).recording("run-2").frames("camera/rgb")) == 100

    busy = log(service.url, 3)  # logs on while the service is stopped
    busy.first_line()
    assert service.stop() == 0
    assert len(service.out.end()) == 1
    check(service.store, {**counts, 3: int(busy.out.lines[-1])})
    code, report, err = status_of(service.url)
    assert (code, report) == (1, None)
    assert "does not answer" in err


def scrape(url):
    """Name of a sample -> actor -> its numbers, added up."""
    found = {}
    with urllib.request.urlopen(url, timeout=10) as answer:
        for family in parse(answer.read().decode()):
            for sample in family.samples:
                actors = found.setdefault(sample.name, Counter())
                actors[sample.labels["actor"]] += sample.value
    return found


def test_metrics_of_all_actors_are_at_one_address_also_when_one_hangs_or_is_killed(start, log, tmp_path):
    service = start(Service, tmp_path, "--actors", "2", "--http", "127.0.0.1:0")
    url = re.search(r", and metrics at (http://127\.0\.0\.1:\d+/metrics)$", service.line)[1]
    health = url.replace("/metrics", "/healthz")
    actors = service.actors()
    for logger in [log(service.url, worker, 60) for worker in (1, 2)]:
        assert acknowledged(logger) == 60
    found = wait_until(lambda: (now := scrape(url))["lumatile_streams"].total() == 0 and now)
    assert all(set(numbers) == set(actors) for numbers in found.values())
    for name in ("accepted_values_total", "acknowledged_values_total", "stored_values_total"):
        assert found[f"lumatile_{name}"].total() == 120
    assert found["lumatile_log_to_durable_seconds_count"].total() == 120
    assert found["lumatile_errors_total"].total() == found["lumatile_duplicate_values_total"].total() == 0
    assert found["lumatile_segment_bytes_total"].total() > 120 * 40 * 60 * 3, "a pixel has 3 random bytes"
    assert found["lumatile_actor_up"] == dict.fromkeys(actors, 1)

    stored = dict(found["lumatile_stored_values_total"])
    one, other = sorted(stored, key=stored.get, reverse=True)
    process = psutil.Process(actors[one]["pid"])
    process.suspend()
    began = time.monotonic()
    found = wait_until(lambda: (now := scrape(url))["lumatile_actor_up"][one] == 0 and now)
    assert time.monotonic() - began < 10, "who does not answer is waited for a second"
    assert found["lumatile_actor_up"] == {one: 0, other: 1}
    assert set(found["lumatile_stored_values_total"]) == {other}
    with urllib.request.urlopen(health, timeout=10) as answer:
        assert (answer.status, answer.read()) == (200, b"ok")
    process.resume()
    wait_until(lambda: scrape(url)["lumatile_actor_up"][one] == 1)

    process.kill()
    began = time.monotonic()
    while dict(scrape(url)["lumatile_stored_values_total"]) != {**stored, one: 0}:  # a new process counts from 0
        assert set(scrape(url)["lumatile_actor_up"]) == set(actors)
        with urllib.request.urlopen(health, timeout=10) as answer:
            assert answer.status == 200
        assert time.monotonic() - began < 90
    assert service.stop() == 0


def check_races(store, counts, **options):
    """The oracle, where two live actors may both have stored what one of them was slow to acknowledge."""
    keys = stored_keys(store)
    check(store, counts, races=sum(keys.values()) - len(keys), **options)


def test_kill_9_of_an_actor(start, log, tmp_path):
    service = start(Service, tmp_path, "--actors", "2")
    before = service.actors()
    loggers = {worker: log(service.url, worker) for worker in (1, 2)}
    for logger in loggers.values():
        logger.first_line()
    for name in before:
        count = {worker: len(logger.out.lines) for worker, logger in loggers.items()}
        psutil.Process(before[name]["pid"]).kill()
        for worker, logger in loggers.items():
            wait_until(lambda logger=logger, said=count[worker] + 2: len(logger.out.lines) >= said)
        wait_until(lambda name=name: service.actors().get(name, before[name])["pid"] != before[name]["pid"])
    (tmp_path / "enough").touch()
    counts = {worker: acknowledged(logger) for worker, logger in loggers.items()}
    check_races(service.store, counts, url=service.url)
    assert service.stop(signal.SIGINT, group=True) == 0  # as a terminal does it
    check_races(service.store, counts)


def test_kill_9_of_the_whole_service_and_a_restart(start, log, tmp_path):
    service = start(Service, tmp_path, "--actors", "2")
    logger = log(service.url, 1)
    logger.first_line()
    service.kill()
    again = start(Service, tmp_path, "--actors", "2", port=service.port)
    said = len(logger.out.lines)
    wait_until(lambda: len(logger.out.lines) >= said + 2)
    (tmp_path / "enough").touch()
    counts = {1: acknowledged(logger)}
    check(again.store, counts, url=again.url)
    again.kill(alone=True)  # its actors end by themselves
    check(again.store, counts)


def test_a_service_beyond_loopback_takes_values_over_tls_from_who_has_a_token(
    start, tmp_path, certificate, monkeypatch
):
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text(f"{'w' * 20} write\n{'r' * 20} read\n")
    port = free_port()
    files = ["--token-file", tokens, "--tls-cert", certificate / "cert", "--tls-key", certificate / "key"]
    where = ["--listen", f"0.0.0.0:{port}", "--advertise", "127.0.0.1", "--actors", "1"]
    service = start(Service, tmp_path, *where, *files, port=port)
    assert "grpc+tls://" in service.line
    url = f"grpc+tls://127.0.0.1:{port}"
    monkeypatch.setenv("LUMATILE_SPOOL", "off")
    monkeypatch.setenv("LUMATILE_TLS_ROOTS", str(certificate / "cert"))

    def log_one(token):
        monkeypatch.setenv("LUMATILE_TOKEN", token)
        recording = lt.new_recording("service", "run", sink=url, strict=True)
        recording.log_image("x", np.full((3, 3, 3), 7, np.uint8))
        try:
            return recording.flush(20)
        finally:
            with suppress(lt.FlushError):
                recording.disconnect(timeout=0)

    with pytest.raises(lt.FlushError, match="the bearer token may not do this: it needs write"):
        log_one("r" * 20)
    assert log_one("w" * 20) == "store"
    monkeypatch.setenv("LUMATILE_TOKEN", "r" * 20)
    code, report, _ = status_of(url)
    assert code == 0
    assert report["actors"][0]["acknowledged"]["values"] == 1
    monkeypatch.setenv("LUMATILE_TOKEN", "guessed-token-000")
    code, _, err = status_of(url)
    assert code == 1
    assert "the bearer token is not valid here" in err
    assert service.stop() == 0


def test_kill_9_of_a_raylet(start, log, tmp_path, ray_directory):
    env = {
        "RAY_TMPDIR": str(ray_directory),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 2,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    cluster = start(Process, ["-c", CLUSTER], tmp_path / "cluster.err", env)
    address, *raylets = cluster.first_line().split()
    service = start(Service, tmp_path, "--ray-address", address, env=env)
    before = service.actors()
    parents = {name: psutil.Process(actor["pid"]).ppid() for name, actor in before.items()}
    assert sorted(parents.values()) == sorted(map(int, raylets))  # one a node

    job = start(Process, ["-c", JOB, address], tmp_path / "job.err", env)
    assert job.first_line() == "store store"
    logger = log(service.url, 1)
    logger.first_line()
    os.kill(int(raylets[0]), signal.SIGKILL)
    said = len(logger.out.lines)
    wait_until(lambda: len(logger.out.lines) >= said + 5)
    (tmp_path / "enough").touch()
    counts = {1: acknowledged(logger), 7: 10, 8: 10}
    check_races(service.store, counts, url=service.url)
    service.process.send_signal(signal.SIGTERM)
    assert service.wait() == 0
    assert cluster.process.poll() is None
    assert psutil.Process(int(raylets[1])).is_running()
    check_races(service.store, counts)
