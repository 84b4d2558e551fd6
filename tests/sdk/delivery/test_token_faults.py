"""Tokens that are missing, wrong, or end while values flow: the values are kept, and come once the token is good."""

import datetime as dt
import time

import pytest
from tests.support.flight_service import Server, check, image, logger, poll, quiet, stored_keys

import lumatile as lt
from lumatile.errors import FlushError
from lumatile.spool.directory import spools
from lumatile_service.ingest.tokens import CHECK_SECONDS

OLD, NEW, READER = "old-" * 5, "new-" * 5, "read-" * 5


def write(path, text):
    """Others never see half of it."""
    new = path.with_suffix(".new")
    new.touch(0o600)
    new.write_text(text)
    new.rename(path)
    return path


@pytest.fixture
def tokens(tmp_path):
    """The file of a server."""
    return write(tmp_path / "tokens", f"{OLD} write\n{READER} read\n")


@pytest.fixture
def client(tmp_path):
    """What a client process has for its token, in a file."""
    return write(tmp_path / "client", OLD)


def why_not(recording):
    """Why nothing is durable."""
    try:
        recording.flush(0.05)
    except FlushError as e:
        return str(e)
    return ""


def test_wrong_missing_and_expired_tokens(tmp_path, tokens, client, monkeypatch):
    monkeypatch.setenv("LUMATILE_SPOOL", "off")
    store = tmp_path / "store"
    with Server(store, token_file=tokens) as server:
        recording = lt.new_recording("flight", "waits", sink=server.url)
        recording.set_time_sequence("i", 0)
        recording.log_image("w/0", image(0, 0))
        for token, message in (
            (None, "needs a bearer token, and none was sent"),
            ("guessed-token-00", "the bearer token is not valid here, or not any more"),
            (READER, "the bearer token may not do this: it needs write"),
        ):
            if token is not None:
                monkeypatch.setenv("LUMATILE_TOKEN", token)
            poll(lambda message=message: message in why_not(recording))
            assert "1 logged values are not durable" in why_not(recording)
        assert not list(store.iterdir())

        with logger(server.url, env={"LUMATILE_TOKEN": "", "LUMATILE_TOKEN_FILE": str(client)}) as process:
            process.line(2)
            end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.5)
            write(tokens, f"{OLD} write {end.isoformat()}\n{NEW} write\n")
            process.says("the bearer token is not valid here, or not any more")
            late = (dt.datetime.now(dt.UTC) - end).total_seconds()
            assert 0 <= late < CHECK_SECONDS + 2
            poll(lambda: quiet(store))
            before = stored_keys(store)
            time.sleep(0.5)
            assert stored_keys(store) == before
            said = process.said()
            write(client, NEW)
            poll(lambda: process.said() > said + 20)
            process.kill()
            monkeypatch.setenv("LUMATILE_TOKEN", NEW)
            poll(lambda: quiet(store))
            check(store, {0: process.said()}, url=server.url)
        poll(lambda: why_not(recording) == "")
        recording.disconnect(timeout=30)
        check(store, {0: 1}, recording="waits")


def test_with_a_spool_a_token_that_is_taken_away_in_the_middle_stops_nobody(tmp_path, tokens, client, monkeypatch):
    store, root = tmp_path / "store", tmp_path / "spools"
    env = {"LUMATILE_TOKEN_FILE": str(client), "LUMATILE_SPOOL": str(root)}
    with Server(store, token_file=tokens) as server, logger(server.url, env=env) as process:
        process.line(2)
        write(tokens, f"{NEW} write\n")
        process.says("the bearer token is not valid here, or not any more")
        said = process.said()
        poll(lambda: process.said() > said + 20)  # durable, in the spool
        write(client, NEW)
        poll(lambda: not any(path.glob("*.segment")) if (path := next(spools(root), None)) else True)
        monkeypatch.setenv("LUMATILE_TOKEN", NEW)
        acknowledged = process.said()
        poll(lambda: {seq for _, seq in stored_keys(store)} >= set(range(acknowledged)))
        process.kill()
        poll(lambda: quiet(store))
        check(store, {0: acknowledged}, url=server.url)
