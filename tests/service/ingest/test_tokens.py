"""Bearer tokens and TLS, with a real server and real clients."""

import contextlib
import datetime as dt
import os
import time
from pathlib import Path

import numpy as np
import pytest
from pyarrow import flight

import lumatile as lt
from lumatile.wire.credentials import bearer_token, call_options, connect
from lumatile_kernels import select_backend
from lumatile_service.ingest.flight_server import IngestServer
from lumatile_service.ingest.recordings import Ingest
from lumatile_service.ingest.tokens import TokenFile, token_middleware

WRITER, READER, BOTH = "w" * 20, "r" * 20, "b" * 20


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch):
    for name in ("LUMATILE_TOKEN", "LUMATILE_TOKEN_FILE", "LUMATILE_TLS_ROOTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LUMATILE_SPOOL", "off")


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "tokens"
    write(path, f"# who may do what\n\n{WRITER} write\n{READER}\tread\n{BOTH} write,read 2999-01-01T00:00:00Z\n")
    return path


def write(path, text):
    path.write_text(text)
    path.chmod(0o600)


@pytest.fixture
def serve(tmp_path):
    """Start servers of one store."""
    started = []

    def start(location="grpc://127.0.0.1:0", **options):
        ingest = Ingest(tmp_path / "store", lambda: select_backend("numpy"))
        server = IngestServer(location, ingest, **options)
        started.append((server, ingest))
        return server

    yield start
    for server, ingest in started:
        ingest.close(10)
        server.shutdown()


def log_one(url, recording_id="r"):
    recording = lt.new_recording("tokens", recording_id, sink=url)
    recording.log_image("x", np.full((3, 3, 3), 7, np.uint8))
    try:
        return recording.flush(10)
    finally:
        with contextlib.suppress(lt.FlushError):
            recording.disconnect(timeout=0)


@pytest.mark.parametrize("token", [WRITER, BOTH])
def test_a_token_that_may_write_writes(serve, token_file, tmp_path, monkeypatch, token):
    server = serve(middleware=token_middleware(TokenFile(token_file)))
    monkeypatch.setenv("LUMATILE_TOKEN", token)
    assert log_one(f"grpc://127.0.0.1:{server.port}") == "store"
    assert len(lt.open_store(tmp_path / "store").recording("r").frames("x")) == 1


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, "needs a bearer token, and none was sent"),
        ("guessed-token-00", "the bearer token is not valid here"),
        (READER, "the bearer token may not do this: it needs write"),
    ],
)
def test_a_call_without_the_right_token_is_refused(serve, token_file, tmp_path, monkeypatch, token, message):
    server = serve(middleware=token_middleware(TokenFile(token_file)))
    if token is not None:
        monkeypatch.setenv("LUMATILE_TOKEN", token)
    with pytest.raises(lt.FlushError, match=message):
        log_one(f"grpc://127.0.0.1:{server.port}")
    assert not list(tmp_path.glob("store/*"))


def test_an_expired_token_is_refused_and_a_new_one_is_taken_without_a_restart(serve, token_file, monkeypatch):
    tokens = TokenFile(token_file)
    assert tokens.scopes(WRITER) == {"write"}
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.5)).isoformat()
    write(token_file, f"{WRITER} write {soon}\n")
    os.utime(token_file, ns=(1, 1))
    assert tokens.scopes(WRITER) == {"write"}
    deadline = time.monotonic() + 5
    while tokens.scopes(WRITER) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert tokens.scopes(WRITER) == frozenset()
    write(token_file, f"{WRITER} read\n{BOTH} write\n")
    os.utime(token_file, ns=(2, 2))
    assert tokens.scopes(WRITER) == {"read"}
    assert tokens.scopes(BOTH) == {"write"}


def test_a_file_that_becomes_bad_leaves_the_tokens_as_they_were(token_file, caplog):
    tokens = TokenFile(token_file)
    write(token_file, "nonsense\n")
    os.utime(token_file, ns=(1, 1))
    assert tokens.scopes(WRITER) == {"write"}
    assert "the tokens remain as they were" in caplog.text
    token_file.unlink()
    assert tokens.scopes(WRITER) == {"write"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must contain a token"),
        ("# none\n", "must contain a token"),
        (f"{WRITER}\n", "line 1 of a token file must be TOKEN write,read .*, and it has 1 words"),
        ("short write\n", "with a token of 16 characters or more, not 5"),
        (f"\n{WRITER} write,root\n", "line 2 of a token file must be .* not 'write,root'"),
        (f"{WRITER} write tomorrow\n", "with a time like 2027-01-31T00:00:00Z"),
        (f"{WRITER} write 2027-01-31T00:00:00\n", "with a time that has a zone"),
    ],
)
def test_a_bad_token_file_has_one_clear_error_without_a_token_in_it(tmp_path, text, message):
    write(tmp_path / "tokens", text)
    with pytest.raises(lt.LumatileError, match=message) as raised:
        TokenFile(tmp_path / "tokens")
    assert WRITER not in str(raised.value)


@pytest.mark.skipif(os.name != "posix", reason="has no file modes")
def test_a_token_file_that_others_can_read_is_refused(token_file):
    token_file.chmod(0o644)
    with pytest.raises(lt.LumatileError, match="must not be open to others"):
        TokenFile(token_file)
    with pytest.raises(lt.LumatileError, match="must be a file that can be read"):
        TokenFile(token_file.with_name("none"))


def test_clients_take_their_token_from_the_environment_or_a_file(token_file, monkeypatch):
    assert bearer_token() is None
    monkeypatch.setenv("LUMATILE_TOKEN_FILE", str(token_file))
    assert bearer_token() == WRITER
    monkeypatch.setenv("LUMATILE_TOKEN", f" {READER}\n")
    assert bearer_token() == READER
    monkeypatch.delenv("LUMATILE_TOKEN")
    monkeypatch.setenv("LUMATILE_TOKEN_FILE", "/none")
    with pytest.raises(lt.LumatileError, match="LUMATILE_TOKEN_FILE must name a file that can be read"):
        bearer_token()


def test_values_go_over_tls_to_a_server_that_is_known(serve, certificate, token_file, tmp_path, monkeypatch):
    pair = ((certificate / "cert").read_bytes(), (certificate / "key").read_bytes())
    server = serve(
        "grpc+tls://127.0.0.1:0",
        tls_certificates=[pair],
        middleware=token_middleware(TokenFile(token_file)),
    )
    monkeypatch.setenv("LUMATILE_TOKEN", WRITER)
    monkeypatch.setenv("LUMATILE_TLS_ROOTS", str(certificate / "cert"))
    assert log_one(f"grpc+tls://127.0.0.1:{server.port}") == "store"
    client = connect(f"grpc+tls://127.0.0.1:{server.port}")
    info = client.get_flight_info(flight.FlightDescriptor.for_command(b"ingest"), call_options(5))
    assert len(info.endpoints) == 1
    client.close()


def test_a_server_that_is_not_known_is_not_logged_to(serve, certificate, tmp_path, monkeypatch):
    pair = (certificate / "cert").read_bytes(), (certificate / "key").read_bytes()
    server = serve("grpc+tls://127.0.0.1:0", tls_certificates=[pair])
    with pytest.raises(lt.FlushError):
        log_one(f"grpc+tls://127.0.0.1:{server.port}")
    assert not list(Path(tmp_path).glob("store/*"))
