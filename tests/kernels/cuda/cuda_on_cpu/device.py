"""A device without a GPU: host memory, and the very same kernels compiled for the CPU.

Longer than other files: the device, its memory and its compiler are one stand-in.
"""

import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import weakref
from functools import cache, partial
from pathlib import Path

import numpy as np

from lumatile_kernels.cuda.arrays import DeviceArray
from lumatile_kernels.cuda.sources import source_text
from lumatile_kernels.device import Borrowed, DeviceError, DeviceMemoryError

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
OPTIONS = (
    "-std=c++14",
    "-O1",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-fPIC",
    "-fvisibility=hidden",
    "-w",
    "-U_FORTIFY_SOURCE",
    "-fno-stack-protector",
    "-fno-sanitize=all",
    "-fsanitize=alignment,bounds,shift,signed-integer-overflow,integer-divide-by-zero,float-cast-overflow",
)
LIBRARIES = Path(__file__).parents[4] / ".pytest_cache" / "cuda-on-cpu"
"""The compiled kernels, by a hash of what they are made of: all test processes share them, later runs too."""
POISON = 0xA5
GUARD = 4096
"""Bytes before and behind each allocation that nobody may write to."""
WRITTEN = {
    *("out", "ranges", "carry"),
    *("narrow", "outside", "translucent"),
    *("origin", "extent", "offsets", "keys", "order", "stored"),
}
"""Pointers that kernels write to; they read from the others."""
ORDERS = ("forwards", "backwards", "mixed")
"""In which order the threads of a block take their turns."""
LAUNCHER = """
extern "C" __attribute__((visibility("default")))
const char* launch_NAME(unsigned grid, unsigned order, const void* arguments, size_t size) {
    return cuda_on_cpu::launch(NAME, grid, order, arguments, size);
}
"""
LOCK = threading.Lock()
"""Held during a launch: a library has one set of threads."""


def compiler():
    """The command of a C++ compiler: $CXX, g++, or the one in the ziglang wheel."""
    if "CXX" in os.environ:
        return os.environ["CXX"].split()
    if found := shutil.which("g++"):
        return [found]
    return [sys.executable, "-m", "ziglang", "c++", "-target", f"{os.uname().machine}-linux-gnu"]


@cache
def _version(command):
    """What the compiler says about itself."""
    return subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout


def build(text, defines, command):
    """Return the library of a text that is compiled after the header: from LIBRARIES, or compiled into it."""
    made_of = (text, HEADER.read_text("utf-8"), OPTIONS, defines, command, _version(command))
    library = LIBRARIES / f"{hashlib.sha256(repr(made_of).encode()).hexdigest()[:24]}.so"
    LIBRARIES.mkdir(parents=True, exist_ok=True)
    with library.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test processes want the same libraries
        if not library.exists():
            _compile(text, defines, command, library)
    return ctypes.CDLL(str(library))


def _compile(text, defines, command, library):
    source, compiled_to, linked = (library.with_suffix(suffix) for suffix in (".cpp", ".o", ".linked"))
    source.write_text("#line 1\n" + text)
    macros = [f"-D{macro}={value}" for macro, value in defines]
    # the wheel would first compile a C++ library, for a minute; the kernels call C only, which Python has loaded
    without = ["-nostdlib"] if "ziglang" in command else []
    for arguments in (
        [*OPTIONS, *macros, "-include", str(HEADER), "-c", "-o", str(compiled_to), str(source)],
        [*without, "-shared", "-o", str(linked), str(compiled_to)],  # on its own: without the sanitizer's library
    ):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    linked.rename(library)
    compiled_to.unlink()


@cache
def compiled(text, defines, names, command):
    """A library of all kernels of a text."""
    return build(text + "".join(LAUNCHER.replace("NAME", name) for name in names), defines, command)


def library_of(kernel, command=None):
    """The library that a kernel is in."""
    names = [kernel.name]
    if kernel.files == ("points.cu",):
        names = ["find_origin", "subtract_origin", "encode_keys", "store_points"]
    return compiled(source_text(kernel), kernel.defines, tuple(names), tuple(command or compiler()))


def run_kernel(library, name, arguments, blocks, order=0):
    """Run a kernel of a library; AssertionError where it does what is undefined."""
    function = getattr(library, f"launch_{name}")
    function.restype = ctypes.c_char_p
    function.argtypes = [ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_size_t]
    with LOCK:
        failure = function(blocks, order, arguments.ctypes.data, arguments.nbytes)
    assert failure is None, f"{name}: {failure.decode()}"


class HostMemory:
    """Poisoned bytes between guards."""

    def __init__(self, nbytes):
        self._bytes = np.full(nbytes + 2 * GUARD + 256, POISON, np.uint8)
        self._start = -(self._bytes.ctypes.data + GUARD) % 256 + GUARD
        self.pointer = self._bytes.ctypes.data + self._start
        self.nbytes = nbytes

    def intact(self):
        """Whether nobody has written beyond the memory."""
        before, behind = self._bytes[: self._start], self._bytes[self._start + self.nbytes :]
        return bool((before == POISON).all() and (behind == POISON).all())

    def __del__(self):
        if not self.intact():
            BROKEN.append(self.nbytes)


BROKEN = []
"""Sizes of memory that was written beyond before it was freed."""


class CpuDevice:
    """A `Device` whose streams are done with everything at once; it can be told to fail."""

    name = "the CPU, as a CUDA device"

    def __init__(self, blocks=3, number=0, order="forwards"):
        """`blocks`: how many a launch has at most; `order`: of a block's threads, one of ORDERS."""
        self.number = number
        self.blocks = blocks
        self.order = ORDERS.index(order)
        self.verbs = 0
        """How many calls there have been."""
        self.allocations = 0
        self.launched = []
        """Kernels, as they were launched."""
        self.downloads = 0
        self.borrowed = []
        """Handles of streams that were borrowed."""
        self.room = None
        """Bytes that an allocation may have; None: any."""
        self.fails_after = None
        """Verbs until it fails for good."""
        self.full_after = None
        """Verbs until one of them, whichever it is, finds no memory."""
        self._memory = {}
        """References to what is allocated, by address."""

    @property
    def launches(self):
        return len(self.launched)

    @property
    def failed(self):
        """Whether it has failed for good."""
        return self.fails_after is not None and self.fails_after < 0

    def _verb(self):
        self.verbs += 1
        if self.fails_after is not None:
            self.fails_after -= 1
            if self.failed:
                raise DeviceError("cudaErrorDeviceUnavailable: the test has switched it off")
        if self.full_after is not None:
            self.full_after -= 1
            if self.full_after < 0:
                self.full_after = None
                raise DeviceMemoryError("cudaErrorMemoryAllocation: the test has filled it")

    def _do(self, stream, action, *, reads=(), writes=(), host=None):
        """Have a stream do something to some device memory and, maybe, a host array."""
        action()

    def intact(self):
        """Whether nothing was written beyond any memory."""
        for address, reference in list(self._memory.items()):
            memory = reference()
            if memory is None:
                del self._memory[address]
            elif not memory.intact():
                return False
        return not BROKEN

    def memory_at(self, pointer):
        """What was allocated around an address."""
        found = [m for m in (r() for r in self._memory.values()) if m and 0 <= pointer - m.pointer < max(m.nbytes, 1)]
        return found[0] if found else None

    def allocate(self, nbytes):
        self._verb()
        if self.room is not None and nbytes > self.room:
            raise DeviceMemoryError(f"{nbytes} bytes, of {self.room}")
        self.allocations += 1
        memory = HostMemory(nbytes)
        self._memory[memory.pointer] = weakref.ref(memory)
        return memory

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
        move = partial(ctypes.memmove, to, array.ctypes.data, array.nbytes)
        self._do(stream, move, writes=[to], host=array)

    def download(self, to, source, stream):
        self._verb()
        self.downloads += 1
        assert to.flags.c_contiguous
        to[...] = POISON
        self._do(stream, partial(ctypes.memmove, to.ctypes.data, source, to.nbytes), reads=[source], host=to)

    def copy(self, to, source, nbytes, stream):
        self._verb()
        self._do(stream, partial(ctypes.memmove, to, source, nbytes), reads=[source], writes=[to])

    def zero(self, to, nbytes, stream):
        self._verb()
        self._do(stream, partial(ctypes.memset, to, 0, nbytes), writes=[to])

    def launch(self, kernel, arguments, blocks, stream):
        self._verb()
        self.launched.append(kernel)
        arguments = arguments.copy()
        pointers = {
            name: [int(pointer) for pointer in arguments[name].reshape(-1) if pointer]
            for name in arguments.dtype.names
            if arguments.dtype[name].base == np.uint64
        }
        if "carries" in arguments.dtype.names and not arguments["carries"][0]:
            del pointers["carry"]
        self._do(
            stream,
            partial(self._run, kernel, arguments, max(1, min(blocks, self.blocks))),
            reads=[pointer for name, found in pointers.items() if name not in WRITTEN for pointer in found],
            writes=[pointer for name, found in pointers.items() if name in WRITTEN for pointer in found],
        )

    def _run(self, kernel, arguments, blocks):
        run_kernel(library_of(kernel), kernel.name, arguments, blocks, self.order)
        assert self.intact(), f"{kernel.name} has written beyond its memory"

    def argsort(self, to, keys, count, stream):
        self._verb()
        self._do(stream, partial(_argsort, to, keys, count), reads=[keys], writes=[to])

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


def _argsort(to, keys, count):
    values = np.ctypeslib.as_array(ctypes.cast(keys, ctypes.POINTER(ctypes.c_uint64)), (count,))
    order = np.argsort(values, kind="stable").astype(np.int64)
    ctypes.memmove(to, order.ctypes.data, order.nbytes)


def on_device(device, array, offset=0):
    """A copy of an array on a device, `offset` bytes from where memory begins."""
    array = array.copy()
    memory, stream = device.allocate(offset + array.nbytes), device.stream()
    device.upload(memory.pointer + offset, array, stream)
    return DeviceArray(
        device=device,
        pointer=memory.pointer + offset,
        shape=array.shape,
        dtype=array.dtype,
        ready=device.record(stream),
        owner=(memory, array),
    )


def machine():
    """What the kernels are compiled for, for messages."""
    return f"{' '.join(compiler())} on {sysconfig.get_platform()}"
