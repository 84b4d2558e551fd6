"""Recordings that log to memory; backends and what they make."""

import os
import subprocess
import uuid

import numpy as np
import pytest

import lumatile as lt
from lumatile.content.bright_floats import Hint
from lumatile.sink.memory import VALUES
from lumatile_kernels import BackendUnavailableError, select_backend

os.environ["LUMATILE_SPOOL"] = "off"  # tests of it say where it is; nothing is written into the user's directories
Hint.given = True  # it would be given to whatever test of a process comes first


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tell pytest-xdist what belongs together."""
    from tests.support.scheduling import FilesThatShare

    return FilesThatShare(config, log)


@pytest.fixture
def name():
    """Of a memory sink of the test's own; `VALUES[name]` is what was logged to it."""
    name = uuid.uuid4().hex
    yield name
    VALUES.pop(name, None)


@pytest.fixture
def values(name):
    """What the test logged."""
    return VALUES[name]


@pytest.fixture
def strict(name):
    """A recording that raises."""
    recording = lt.new_recording("tests", sink=f"memory://{name}", strict=True)
    yield recording
    recording.disconnect()


@pytest.fixture
def lenient(name):
    """A recording that warns."""
    recording = lt.new_recording("tests", sink=f"memory://{name}")
    yield recording
    recording.disconnect()


@pytest.fixture
def one_segment(monkeypatch):
    """Commit at flushes only, so that what is logged before one is in one segment on a slow machine too."""
    monkeypatch.setattr("lumatile.write.writer.SEGMENT_SECONDS", 600.0)


@pytest.fixture(scope="session", params=["numpy", "numba"])
def backend(request):
    """Each backend that runs here."""
    try:
        return select_backend(request.param)
    except BackendUnavailableError as e:
        pytest.skip(str(e))


@pytest.fixture(scope="session")
def assemble():
    """A function that puts the tiles of a plane together again."""

    def levels(blocks, dtype, channels, plane="pixels"):
        """The plane's levels, each (height, width, channels)."""
        texel_bytes = np.dtype(dtype).itemsize * channels
        tiles = {}
        for block in blocks:
            t = block.tiles
            for i in range(len(t) if block.plane == plane else 0):
                stored = block.payload[t.offset[i] :][: t.size[i]].reshape(t.height[i], t.row_pitch[i])
                used = t.width[i] * texel_bytes
                assert not stored[:, used:].any(), "padding is zero"
                texels = stored[:, :used].copy().view(dtype).reshape(t.height[i], t.width[i], channels)
                tiles.setdefault(t.level[i], {}).setdefault(t.y[i], {})[t.x[i]] = texels
        return [
            np.concatenate([np.concatenate([row[x] for x in sorted(row)], 1) for _, row in sorted(level.items())], 0)
            for _, level in sorted(tiles.items())
        ]

    return levels


@pytest.fixture(scope="session")
def dirty():
    """An `Allocate` whose memory is full of what was there before."""
    return lambda nbytes: np.full(nbytes, 0xAB, np.uint8)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A key and a certificate for 127.0.0.1, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=lumatile"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    try:
        subprocess.run([*command.split(), *names], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return folder
