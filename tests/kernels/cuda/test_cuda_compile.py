"""NVRTC compiles the kernels without a GPU; what is missing on a machine is named.

`make check` compiles every kernel for every architecture; here are a few.
"""

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest

from lumatile_kernels.cuda.compile import ARCHITECTURES, CompileError, compile_kernel
from lumatile_kernels.cuda.sources import (
    OPTIONS,
    TRANSLUCENT,
    depth_kernel,
    image_kernel,
    points_kernel,
    segmentation_kernel,
    source_text,
)

cuda = pytest.importorskip("cupy").cuda
nvrtc = cuda.nvrtc
try:
    nvrtc.getVersion()
except RuntimeError as e:
    pytest.skip(f"NVRTC is not installed: {e}", allow_module_level=True)

LINEAR = image_kernel(np.dtype(np.uint8), 3, "linear")
MAIN = [
    LINEAR,
    image_kernel(np.dtype(np.uint8), 4, "srgb8"),
    image_kernel(np.dtype(np.float32), 4, "linear"),
    image_kernel(np.dtype(np.float32), 3, "rgba32float", carried=True),
    depth_kernel(np.dtype(np.uint16)),
    segmentation_kernel(np.dtype(np.uint8)),
    segmentation_kernel(np.dtype(np.uint16)),
]


def program(kernel, *options):
    """(PTX, log) of a kernel."""
    made = nvrtc.createProgram(source_text(kernel), kernel.files[-1], (), ())
    try:
        nvrtc.compileProgram(made, (*(f"-D{name}={value}" for name, value in kernel.defines), *options))
        return bytes(nvrtc.getPTX(made)).decode(), nvrtc.getProgramLog(made)
    finally:
        nvrtc.destroyProgram(made)


@pytest.mark.parametrize("kernel", [LINEAR, points_kernel("encode_keys", np.dtype(np.float64), 3), TRANSLUCENT])
@pytest.mark.parametrize("architecture", [ARCHITECTURES[0], 90])
def test_machine_code_for_an_architecture_that_nvrtc_knows(kernel, architecture):
    code = compile_kernel(kernel, architecture)
    assert code.startswith(b"\x7fELF")
    assert code.endswith(b"\0")


def test_ptx_for_an_architecture_that_nvrtc_does_not_know_yet():
    newest = max(nvrtc.getSupportedArchs())
    text = compile_kernel(LINEAR, newest + 7)
    assert b"\0" not in text[:-1]
    lines = text[:-1].decode().splitlines()
    assert f".target sm_{newest}" in lines
    assert any(line.startswith(".version") for line in lines)
    assert any(line.startswith(".visible .entry image_tiles(") for line in lines)


def test_what_nvrtc_refuses_is_said_with_its_words():
    wrong = dataclasses.replace(depth_kernel(np.dtype("u1")), defines=(("SOURCE", "colour"), ("CARRIED", "0")))
    with pytest.raises(CompileError, match="colour") as caught:
        compile_kernel(wrong, 90)
    message = str(caught.value)
    assert message.startswith("depth_tiles {'SOURCE': 'colour', 'CARRIED': '0'} for sm_90: ")
    assert "is undefined" in message


def test_a_warning_is_an_error_where_that_is_asked_for():
    warned = dataclasses.replace(TRANSLUCENT, defines=(("pixels", "pixels; static int unused"),))
    compile_kernel(TRANSLUCENT, 90, "--warning-as-error=all-warnings")
    with pytest.raises(CompileError, match="find_translucent"):
        compile_kernel(warned, 90, "--warning-as-error=all-warnings")


@pytest.mark.parametrize("kernel", MAIN, ids=lambda kernel: "-".join(value for _, value in kernel.defines))
def test_no_multiplication_is_fused_with_an_addition(kernel):
    text, _ = program(kernel, *OPTIONS, "--gpu-architecture=compute_90")
    assert ".entry" in text
    assert not re.findall(r"\bfma\.\S*f(?:16|32|64)", text.split("div.rn")[0])


def test_it_would_be_fused_without_the_option():
    text, _ = program(MAIN[2], *(o for o in OPTIONS if "fmad" not in o), "--gpu-architecture=compute_90")
    assert re.findall(r"\bfma\.rn\.f32", text)


@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("kernel", MAIN, ids=lambda kernel: "-".join(value for _, value in kernel.defines))
def test_nothing_is_kept_in_local_memory(kernel, architecture):
    """Neither spilled registers nor arrays with an index that the compiler does not know."""
    _, log = program(kernel, *OPTIONS, "--ptxas-options=-v", f"--gpu-architecture=sm_{architecture}")
    found = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert found == [("0", "0", "0")], log


@pytest.mark.parametrize("kernel", MAIN, ids=lambda kernel: "-".join(value for _, value in kernel.defines))
def test_three_blocks_fit_a_multiprocessor(kernel):
    """Of registers 65,536, of shared memory 164 KiB (sm_80), less 1 KiB a block."""
    _, log = program(kernel, *OPTIONS, "--ptxas-options=-v", "--gpu-architecture=sm_80")
    registers = int(re.findall(r"Used (\d+) registers", log)[0])
    shared = int(re.findall(r"(\d+) bytes smem", log)[0])
    assert 3 * 256 * -(-registers // 8) * 8 <= 65_536
    assert 3 * (shared + 1024) <= 164 * 1024


# what is missing

DEVICE = """
import sys
{before}
from lumatile_kernels.backend import BackendUnavailableError
from lumatile_kernels.cuda.cuda_device import CudaDevice
try:
    CudaDevice()
except BackendUnavailableError as e:
    print(e)
else:
    print("it is there")
"""


def said(before=""):
    """What is said where something is missing: in a process of its own."""
    script = DEVICE.format(before=before)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_missing_gpu_is_named():
    message = said()
    if message == "it is there":
        pytest.skip("there is a GPU")
    assert message.startswith("backend 'cuda' needs a CUDA device: ")
    assert "driver" in message


def test_a_missing_cupy_is_named():
    message = said("sys.modules['cupy'] = None")
    assert message.startswith("backend 'cuda' needs CuPy (pip install 'lumatile[gpu-cu13]' or 'lumatile[gpu-cu12]')")


FAKE = """
import types
import cupy
runtime = types.SimpleNamespace(
    CUDARuntimeError=cupy.cuda.runtime.CUDARuntimeError,
    getDeviceCount=lambda: {count},
    getDevice=lambda: 0,
    getDeviceProperties=lambda n: dict(name=b"a GPU", multiProcessorCount=1, major=9, minor=0),
    driverGetVersion=lambda: {driver},
    runtimeGetVersion=lambda: 13000,
)
class OneDevice:
    def __init__(self, number): pass
    def __enter__(self): pass
    def __exit__(self, *error): pass
cupy.cuda.runtime, cupy.cuda.Device = runtime, OneDevice
{more}
"""


def test_a_machine_without_devices_is_named():
    assert said(FAKE.format(count=0, driver=13000, more="")) == "backend 'cuda' needs device 0, and there are 0"


def test_a_driver_that_is_too_old_is_named():
    more = """
def count(): raise cupy.cuda.runtime.CUDARuntimeError(35)
runtime.getDeviceCount = count
"""
    message = said(FAKE.format(count=1, driver=12040, more=more))
    assert "the driver supports CUDA 12.4, CuPy is built for 13.0" in message
    assert "lumatile[gpu-cu12]" in message


def test_a_missing_nvrtc_is_named():
    more = "del cupy.cuda.nvrtc"
    message = said(FAKE.format(count=1, driver=13000, more=more))
    assert message.startswith("backend 'cuda' needs NVRTC, which compiles its kernels: ")


def test_an_nvrtc_that_cannot_be_loaded_is_named():
    more = """
def missing(): raise RuntimeError("libnvrtc.so.13: cannot open shared object file")
cupy.cuda.nvrtc.getSupportedArchs = missing
"""
    message = said(FAKE.format(count=1, driver=13000, more=more))
    assert message.startswith(
        "backend 'cuda' needs NVRTC, which compiles its kernels: NVRTC cannot be loaded: libnvrtc"
    )
