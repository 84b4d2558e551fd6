"""A recording to export."""

import pytest

import lumatile as lt


@pytest.fixture
def log(tmp_path):
    """A recording in the store "runs", to log into."""
    recording = lt.new_recording("export test", "run-1", sink=str(tmp_path / "runs"))
    yield recording
    recording.disconnect()
