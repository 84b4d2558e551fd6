"""The service's HTTP server: metrics in the form that is asked for, health, and what it makes of bad requests."""

import contextlib
import re
import socket
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from tests.support.flight_service import poll

from lumatile_service.endpoint import Endpoint
from lumatile_service.ingest.ingest_node import IngestNode
from lumatile_service.metrics.http_server import HttpServer


@pytest.fixture
def server():
    with HttpServer(Endpoint(host="127.0.0.1", port=0)) as made:
        yield made


def families(text):
    return {family.name: family for family in parse(text)}


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.status, answer.headers.get_content_type(), answer.read().decode()


def refused(url, **options):
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(urllib.request.Request(url, **options), timeout=10)
    with raised.value as error:
        return error.code, error.read().decode()


def path(server, name):
    return server.url.replace("/metrics", name)


def test_metrics_are_text_or_open_metrics_where_that_is_asked_for(server, tmp_path):
    node = IngestNode("node", str(tmp_path), host="127.0.0.1", advertise=None, ports=(0,))
    with server.watching(lambda: [node.status()]):
        code, kind, text = get(server.url)
        assert (code, kind) == (200, "text/plain")
        assert len(families(text)) == 18
        code, kind, text = get(
            server.url, Accept="application/openmetrics-text; version=1.0.0; q=0.9, text/plain; q=0.1"
        )
        assert (code, kind) == (200, "application/openmetrics-text")
        assert text.endswith("# EOF\n")
        _, _, text = get(f"{server.url}?name[]=lumatile_actor_up")
        assert list(families(text)) == ["lumatile_actor_up"]
    node.drain(10)


def test_health_is_good_while_an_actor_answers(server):
    answers = []
    with server.watching(lambda: list(answers)):
        assert refused(path(server, "/healthz")) == (503, "no actor answers")
        answers += [{"name": "a", "error": "no answer"}, {"name": "b"}]
        assert poll(lambda: get(path(server, "/healthz")) if server._asked + 1 < time.monotonic() else None) == (
            *(200, "text/plain"),
            "ok",
        )
    assert refused(path(server, "/healthz")) == (503, "no actor answers")


def test_actors_are_asked_once_however_many_ask(server):
    asked = []
    with server.watching(lambda: asked.append(None) or []):
        for _ in range(5):
            get(server.url)
            refused(path(server, "/healthz"))
        assert len(asked) <= 2


def test_what_is_not_there_or_no_get_is_refused_and_the_server_goes_on(server):
    assert refused(path(server, "/"))[0] == 404
    assert refused(path(server, "/healthz"), data=b"x", method="POST")[0] == 405
    assert refused(server.url, data=b"x", method="POST")[0] == 405
    host, port = re.search(r"http://(.+):(\d+)/", server.url).groups()
    for nonsense in (b"\x16\x03\x01\x00\n\r\n", b"GET\r\n\r\n", b"G" * 70000 + b"\r\n", b""):
        with socket.create_connection((host, int(port)), timeout=10) as client, contextlib.suppress(OSError):
            client.sendall(nonsense)
            client.shutdown(socket.SHUT_WR)
            client.recv(1000)
    assert get(server.url)[0] == 200


def test_it_listens_at_ipv6_too():
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        server = HttpServer(Endpoint(host="::1", port=0))
    except OSError as e:
        pytest.skip(f"no IPv6 here: {e}")
    with server:
        assert server.url.startswith("http://[::1]:")
        assert get(server.url)[0] == 200


def test_a_port_that_is_taken_is_an_error_and_one_that_was_closed_is_free(server):
    port = int(re.search(r":(\d+)/", server.url)[1])
    with pytest.raises(OSError, match="in use"):
        HttpServer(Endpoint(host="127.0.0.1", port=port))
    server.close()
    with HttpServer(Endpoint(host="127.0.0.1", port=port)) as again:
        assert get(again.url)[0] == 200
