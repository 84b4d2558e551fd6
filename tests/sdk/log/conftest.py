"""Scripts that log, and what is stored of them."""

import io
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

import lumatile as lt

JPEG = io.BytesIO()
Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(JPEG, "JPEG")

START = f"""
import os, sys, threading, time, multiprocessing
import numpy as np
import lumatile as lt

PIXELS = np.zeros((8, 8, 3), np.uint8)
PICTURE = {JPEG.getvalue()!r}
"""


@pytest.fixture
def run(tmp_path):
    """Run a script that logs to the recording "run" of the store in its directory; give what it says."""

    def run(script, *, timeout=60):
        file = tmp_path / "script.py"
        file.write_text(START + textwrap.dedent(script))
        done = subprocess.run(
            [sys.executable, file],
            cwd=tmp_path,
            env={**os.environ, "LUMATILE_RECORDING_ID": "run", "LUMATILE_SINK": str(tmp_path / "store")},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def rows(tmp_path):
    """(path, producer, seq) of all stored values."""

    def rows():
        table = lt.open_store(tmp_path / "store").recording("run").frames_table()
        return list(zip(*(table.column(c).to_pylist() for c in ("entity_path", "producer", "seq")), strict=True))

    return rows
