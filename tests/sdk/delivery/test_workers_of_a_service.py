"""Worker processes that log to a service: what they have logged arrives, however they end."""

import os

import pytest
from tests.support.flight_service import Child, Server, poll

import lumatile as lt

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

POOL = """
import multiprocessing, sys
import numpy as np
import lumatile as lt

def work(i):
    lt.log_image("image", np.full((8, 8, 3), i, np.uint8))

lt.init("app", "run", sink=sys.argv[1])
lt.log_image("image", np.full((8, 8, 3), 20, np.uint8))
with multiprocessing.get_context("fork").Pool(2) as pool:  # its end is a SIGTERM
    pool.map(work, range(20))
print(lt.flush())
"""


def pixels(store):
    return sorted(int(frame.source()[0, 0, 0]) for frame in lt.open_store(store).recording("run").frames("image"))


@pytest.mark.parametrize("spool", ["off", "on"])
def test_what_a_pool_of_forked_workers_logged_is_stored_when_the_parent_ends_them(tmp_path, spool):
    environment = {"LUMATILE_SPOOL": "off" if spool == "off" else str(tmp_path / "spool"), "TMPDIR": str(tmp_path)}
    with Server(tmp_path / "store") as server, Child([POOL, server.url], env=environment) as pool:
        assert pool.end() == ["store"], pool.errors
    assert pixels(tmp_path / "store") == list(range(21))
    assert not list(tmp_path.rglob("*.segment"))


def test_while_the_service_is_away_what_workers_logged_is_in_the_spool_and_arrives_later(tmp_path):
    environment = {"LUMATILE_SPOOL": str(tmp_path / "spool"), "TMPDIR": str(tmp_path)}
    with Server(tmp_path / "store") as server:
        url, port = server.url, server.port
    with Child([POOL, url], env=environment) as pool:
        assert pool.end(120) == ["spool"], pool.errors
    with Server(tmp_path / "store", port=port):
        recording = lt.new_recording("app", "another", sink=f"{url}?spool={tmp_path / 'spool'}")
        recording.log_image("image", [[0.5]])
        assert recording.flush(60) == "store"
        poll(lambda: not list(tmp_path.rglob("*.segment")), 60)
        recording.disconnect()
    assert pixels(tmp_path / "store") == list(range(21))
