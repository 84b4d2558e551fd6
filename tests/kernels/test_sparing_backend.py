import os
import subprocess
import sys

import numpy as np
import pytest

from lumatile_kernels import select_backend, selection
from lumatile_kernels.host import sparing_backend
from lumatile_kernels.host.numba_backend import NumbaBackend
from lumatile_kernels.host.sparing_backend import SparingBackend

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (300, 280, 3), np.uint8)
PALETTE = RNG.integers(0, 256, (256, 4), np.uint8)
FRAMES = {
    "image": lambda backend: backend.image(PICTURE, tile_format="srgb8"),
    "depth": lambda backend: backend.depth(PICTURE[..., 0].copy(), meter=100.0),
    "segmentation": lambda backend: backend.segmentation(PICTURE[..., 1].copy(), palette=PALETTE),
}


def tiles(blocks):
    return sorted((block.plane, block.payload.tobytes()) for block in blocks)


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_are_the_same_before_and_after_numba_is_used(kind, monkeypatch):
    monkeypatch.setattr(sparing_backend, "NUMPY_TEXELS", 2 * PICTURE[..., 0].size)
    backend, expected = SparingBackend(), tiles(FRAMES[kind](select_backend("numpy")))
    used, own = [], getattr(NumbaBackend, kind)
    monkeypatch.setattr(NumbaBackend, kind, lambda *given, **named: used.append(1) or own(*given, **named))
    for count in (0, 0, 1, 2):  # two frames are as many texels as numpy computes
        assert tiles(FRAMES[kind](backend)) == expected
        assert len(used) == count


def test_clouds_are_the_same_before_and_after_numba_is_used(monkeypatch):
    monkeypatch.setattr(sparing_backend, "NUMPY_TEXELS", 1000)
    backend, positions = SparingBackend(), RNG.random((1000, 3))
    expected = select_backend("numpy").points(positions)
    for _ in range(2):
        found = backend.points(positions)
        np.testing.assert_array_equal(found.positions, expected.positions)
        np.testing.assert_array_equal(found.order, expected.order)


def test_auto_is_numpy_without_numba(monkeypatch):
    monkeypatch.setattr(selection, "_select_cuda", lambda _: None)
    assert select_backend("auto").name == "numba"
    monkeypatch.setitem(sys.modules, "numba", None)
    assert select_backend("auto").name == "numpy"


def test_a_numba_that_cannot_be_imported_is_said_once_and_numpy_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(sparing_backend, "NUMPY_TEXELS", 0)
    monkeypatch.setitem(sys.modules, "lumatile_kernels.host.numba_backend", None)
    backend, expected = SparingBackend(), tiles(FRAMES["image"](select_backend("numpy")))
    for _ in range(2):
        assert tiles(FRAMES["image"](backend)) == expected
    assert backend.name == "numpy"
    assert [record.message[:24] for record in caplog.records] == ["numba cannot be imported"]


FORKED = """
import os, signal, sys, threading
import numpy as np
from lumatile_kernels.selection import select_host_backend

backend = select_host_backend()
list(backend.image(np.zeros((90, 70, 3), np.uint8)))
assert "numba" not in sys.modules, "a small picture does not need it"

importing, forking = threading.Event(), threading.Event()

class Watch:
    def find_spec(self, name, *_):
        if name == "numba":
            importing.set()
            forking.wait()

sys.meta_path.insert(0, Watch())
large = np.zeros((1500, 1500, 3), np.uint8)
thread = threading.Thread(target=lambda: list(backend.image(large)))
thread.start()
importing.wait()
forking.set()
child = os.fork()
if child == 0:
    signal.alarm(100)  # a child that hangs is killed
    list(select_host_backend().image(large))
    os._exit(0)
print(os.waitpid(child, 0)[1])
thread.join()
assert "numba" in sys.modules
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_numba_is_imported_for_large_pictures_and_a_fork_meanwhile_waits():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True, timeout=280, check=False
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
