"""A device without a GPU: host memory, and the very same kernels compiled for the CPU."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from lumatile_kernels.cuda.device import Borrowed, DeviceError, DeviceMemoryError

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
OPTIONS = (
    "-std=c++14",
    "-O1",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
    "-w",
)
POISON = 0xA5
LAUNCHER = """
extern "C" __attribute__((visibility("default")))
unsigned long long launch_NAME(unsigned grid, const void* arguments, unsigned long long size) {
    return cuda_on_cpu::launch(NAME, grid, arguments, size);
}
"""


def compiler():
    """The command of a C++ compiler: $CXX, g++, or the one in the ziglang wheel."""
    if "CXX" in os.environ:
        return os.environ["CXX"].split()
    if found := shutil.which("g++"):
        return [found]
    return [sys.executable, "-m", "ziglang", "c++", "-target", f"{os.uname().machine}-linux-gnu"]


@cache
def _folder():
    return Path(tempfile.mkdtemp(prefix="lumatile-cuda-on-cpu-"))


@cache
def compiled(text, defines, names, command):
    """A library of all kernels of a text."""
    launchers = "".join(LAUNCHER.replace("NAME", name) for name in names)
    name = hashlib.sha256(repr((text, defines, command)).encode()).hexdigest()[:16]
    source, library = _folder() / f"{name}.cpp", _folder() / f"{name}.so"
    source.write_text(text + launchers)
    macros = [f"-D{macro}={value}" for macro, value in defines]
    done = subprocess.run(
        [*command, *OPTIONS, *macros, "-include", str(HEADER), "-o", str(library), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


class HostMemory:
    def __init__(self, nbytes):
        self._bytes = np.full(nbytes + 256, POISON, np.uint8)
        self.pointer = -(-self._bytes.ctypes.data // 256) * 256
        self.nbytes = nbytes


class CpuDevice:
    """A `Device` whose streams are done with everything at once; it can be told to fail."""

    number = 0
    name = "the CPU, as a CUDA device"

    def __init__(self, blocks=3, number=0):
        """`blocks`: how many a launch has at most."""
        self.number = number
        self.blocks = blocks
        self.allocations = 0
        self.launches = 0
        self.borrowed = []
        """Handles of streams that were borrowed."""
        self.room = None
        """Bytes that an allocation may have; None: any."""
        self.fails_after = None
        """Verbs until it fails for good."""

    def _verb(self):
        if self.fails_after is not None:
            self.fails_after -= 1
            if self.fails_after < 0:
                raise DeviceError("cudaErrorDeviceUnavailable: the test has switched it off")

    def allocate(self, nbytes):
        self._verb()
        if self.room is not None and nbytes > self.room:
            raise DeviceMemoryError(f"{nbytes} bytes, of {self.room}")
        self.allocations += 1
        return HostMemory(nbytes)

    def stream(self):
        self._verb()
        return object()

    def borrowed_stream(self, handle):
        self._verb()
        self.borrowed.append(handle)
        return object()

    def borrow(self, value, stream):
        self._verb()
        array = np.ascontiguousarray(value.array)
        return Borrowed(pointer=array.ctypes.data, shape=array.shape, dtype=array.dtype, owner=(value, array))

    def upload(self, to, array, stream):
        self._verb()
        assert array.flags.c_contiguous
        ctypes.memmove(to, array.ctypes.data, array.nbytes)

    def download(self, to, source, stream):
        self._verb()
        assert to.flags.c_contiguous
        ctypes.memmove(to.ctypes.data, source, to.nbytes)

    def copy(self, to, source, nbytes, stream):
        self._verb()
        ctypes.memmove(to, source, nbytes)

    def zero(self, to, nbytes, stream):
        self._verb()
        ctypes.memset(to, 0, nbytes)

    def launch(self, kernel, arguments, blocks, stream):
        self._verb()
        self.launches += 1
        names = [kernel.name]
        if kernel.files == ("points.cu",):
            names = ["find_origin", "subtract_origin", "encode_keys", "store_points"]
        library = compiled(kernel.text, kernel.defines, tuple(names), tuple(compiler()))
        function = getattr(library, f"launch_{kernel.name}")
        function.restype, function.argtypes = ctypes.c_size_t, [ctypes.c_uint, ctypes.c_void_p, ctypes.c_size_t]
        struct = function(max(1, min(blocks, self.blocks)), arguments.ctypes.data, arguments.nbytes)
        assert struct == 0, f"{kernel.name} takes {struct} bytes of arguments, not {arguments.nbytes}"

    def argsort(self, to, keys, count, stream):
        self._verb()
        values = np.ctypeslib.as_array(ctypes.cast(keys, ctypes.POINTER(ctypes.c_uint64)), (count,))
        order = np.argsort(values, kind="stable").astype(np.int64)
        ctypes.memmove(to, order.ctypes.data, order.nbytes)

    def record(self, stream):
        self._verb()
        return object()

    def wait(self, stream, event):
        self._verb()

    def synchronize(self, event):
        self._verb()

    def pin(self, memory):
        self._verb()
        return lambda: None


def machine():
    """What the kernels are compiled for, for messages."""
    return f"{' '.join(compiler())} on {sysconfig.get_platform()}"
