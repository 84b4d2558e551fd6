"""Recordings that log to memory."""

import uuid

import pytest

import lumatile as lt
from lumatile.memory import VALUES


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
