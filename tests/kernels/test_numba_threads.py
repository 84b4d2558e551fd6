"""What numba's backend does where threads, forks, exits and unwritable caches are."""

import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import lumatile_kernels
from lumatile_kernels.host.numpy_backend import NumpyBackend

numba_backend = pytest.importorskip("lumatile_kernels.host.numba_backend")

IMAGE = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)


def payload(backend):
    return b"".join(block.payload.tobytes() for block in backend.image(IMAGE))


def run_python(code, **env):
    """Output of a Python process; fails the test if it fails or hangs."""
    head = "import numpy as np\nfrom lumatile_kernels.host.numba_backend import NumbaBackend\n"
    done = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(code)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_number_of_threads_changes_no_byte():
    expected = payload(NumpyBackend())
    for threads in (1, 2, 5):
        assert payload(numba_backend.NumbaBackend(threads)) == expected


def test_backends_in_several_threads_do_not_meet():
    expected, results = payload(NumpyBackend()), []

    def work():
        backend = numba_backend.NumbaBackend(2)
        results.extend(payload(backend) == expected for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 20


def test_interleaved_frames_of_one_backend_do_not_mix():
    backend = numba_backend.NumbaBackend(2)
    large = np.concatenate([IMAGE, IMAGE], axis=1)
    whole = [b.payload.tobytes() for b in backend.image(large)]
    assert len(whole) > 1
    pairs = zip(backend.image(large), backend.image(large), strict=True)
    assert [(a.payload.tobytes(), b.payload.tobytes()) for a, b in pairs] == [(w, w) for w in whole]


def test_a_forked_child_computes_with_threads_of_its_own():
    assert run_python("""
        import os
        backend = NumbaBackend(2)
        image = np.zeros((600, 600, 3), np.uint8)
        n = len(list(backend.image(image)))
        pid = os.fork()
        if pid == 0:
            os._exit(0 if len(list(backend.image(image))) == n else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """) == ["0"]


def test_a_child_forked_while_a_thread_compiles_does_not_hang(tmp_path):
    out = run_python(
        """
        import os, threading, time
        depth = np.ones((300, 300), np.uint16)
        def work():
            return len(list(NumbaBackend(2).depth(depth, meter=1)))
        thread = threading.Thread(target=work)
        thread.start()
        for delay in (0.2, 0.3):
            time.sleep(delay)
            print(thread.is_alive())
            pid = os.fork()
            if pid == 0:
                os._exit(0 if work() == 1 else 1)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        thread.join()
        """,
        NUMBA_CACHE_DIR=str(tmp_path),
    )
    assert out[0] == "True", "the fork came while the thread was compiling"
    assert out[1::2] == ["0", "0"]


def test_frames_can_be_finished_while_the_interpreter_exits():
    assert run_python("""
        import atexit
        backend = NumbaBackend(2)
        image = np.zeros((600, 600, 3), np.uint8)
        list(backend.image(image))
        atexit.register(lambda: print(len(list(backend.image(image)))))
    """) == ["1"]


def test_a_package_and_home_that_cannot_be_written_only_cost_the_cache(tmp_path):
    """Root may write anywhere, so files stand where directories would be."""
    package = tmp_path / "lumatile_kernels"
    ours = Path(lumatile_kernels.__file__).parent
    shutil.copytree(ours, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__pycache__").touch()
    out = run_python(
        """
        import lumatile_kernels
        print(lumatile_kernels.__file__)
        print(len(list(NumbaBackend().depth(np.ones((300, 300), np.uint16), meter=1))))
        """,
        PYTHONPATH=str(tmp_path),
        PYTHONDONTWRITEBYTECODE="1",
        HOME="/dev/null",
        XDG_CACHE_HOME="/dev/null",
    )
    assert out == [str(package / "__init__.py"), "1"]
