"""`make gpu-check`: what of it needs no GPU runs here, on the CPU in its place.

Longer than other files: its tests share the stand-in of the GPU and its clock.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.gpu_check import __main__ as command
from benchmarks.gpu_check import backends, cupy_chains, kernels, to_host, torch_chains
from benchmarks.gpu_check.cases import Scope
from benchmarks.gpu_check.chains import works
from benchmarks.gpu_check.correctness import Check
from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.frames import METER, random_frame, random_palette
from benchmarks.gpu_check.fused import Fused
from benchmarks.gpu_check.pinned_ring import PinnedRing
from benchmarks.harness.table import Table
from tests.kernels.cuda.cuda_on_cpu.device import CpuDevice

from lumatile_kernels import tables
from lumatile_kernels.backend import BackendUnavailableError
from lumatile_kernels.cuda.backend import CudaBackend
from lumatile_kernels.cuda.cuda_device import CudaDevice
from lumatile_kernels.host.numpy_backend import NumpyBackend
from lumatile_kernels.selection import select_host_backend

ROOT = Path(__file__).parents[3]
SCOPE = Scope(
    shapes=((1, 1), (63, 65), (3, 300), (2, 16_500)),
    image_dtypes=("u1",),
    channels=(3, 4),
    formats=("linear",),
    depth_dtypes=("u2",),
    meters=(METER,),
    id_dtypes=("u1",),
    clouds=(1, 3000),
    axes=(3,),
    cloud_dtypes=("f4",),
    large=False,
)
FEW = Scope(**{**vars(SCOPE), "shapes": ((63, 65),), "channels": (3,), "clouds": ()})


@pytest.fixture(scope="module")
def gpu():
    """A device that answers."""
    try:
        return CudaDevice()
    except BackendUnavailableError as e:
        pytest.skip(str(e))


def ran(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"kernels{os.pathsep}."},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_cuda_backend_passes_on_the_cpu():
    device = CpuDevice()
    check = Check(lambda: CudaBackend(device, select_host_backend))
    check.run(SCOPE)
    assert check.differences == []
    table = check.table(device.name)
    assert {row[0] for row in table.rows} == {"images", "alpha", "depth", "segmentation", "points", "batches"}
    assert all(row[1] == row[2] > 0 for row in table.rows)


def test_one_wrong_byte_is_found_and_its_tile_is_named():
    class Wrong(NumpyBackend):
        def image(self, image, **options):
            blocks = list(super().image(image, **options))
            blocks[-1].payload[-1] ^= 1
            return iter(blocks)

    check = Check(Wrong)
    check.run(FEW)
    assert check.groups["images"].differ == check.groups["images"].cases
    assert "tile level 0 x 0 y 0, row 62, byte 767" in check.differences[0]
    assert check.groups["depth"].differ == 0


def test_what_the_host_has_computed_does_not_count():
    device = CpuDevice()
    check = Check(lambda: CudaBackend(device, select_host_backend, device_bytes=1))
    check.run(FEW)
    assert check.groups["images"].differ == check.groups["images"].cases
    assert "has no room" in check.differences[0]


def test_an_exception_is_a_difference():
    class Broken(NumpyBackend):
        def depth(self, depth, **options):
            raise RuntimeError("cudaErrorIllegalAddress")

    check = Check(Broken)
    check.run(FEW)
    assert check.groups["depth"].differ == check.groups["depth"].cases
    assert any("cudaErrorIllegalAddress" in difference for difference in check.differences)


KINDS = {
    "image": ((70, 90, 3), "u1", lambda backend, frame: backend.image(frame)),
    "depth": ((70, 90), "u2", lambda backend, frame: backend.depth(frame, meter=METER)),
    "segmentation": (
        (70, 90),
        "u1",
        lambda backend, frame: backend.segmentation(frame, palette=random_palette(256, 0)),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 33])
def test_the_timed_launches_make_what_numpy_makes(kind, count):
    shape, dtype, call = KINDS[kind]
    frames = [random_frame(shape, dtype, seed) for seed in range(count)]
    fused = Fused(CpuDevice(), frames, call, sets=2)
    fused.enqueue(1)
    for plane in range(len(fused.work.plan.planes)):
        name = fused.work.plan.planes[plane].plane
        for number in {0, count // 2, count - 1}:
            blocks = [b.payload for b in call(NumpyBackend(), frames[number]) if b.plane == name]
            np.testing.assert_array_equal(fused.payload(number, plane), np.concatenate(blocks))
    made = [block for frame in frames for block in call(NumpyBackend(), frame)]
    assert fused.out_bytes == sum(block.payload.nbytes for block in made)
    assert fused.in_bytes == sum(frame.nbytes for frame in frames)


@pytest.mark.parametrize("shape", [(1, 1), (300, 517), (512, 700)])
def test_the_chains_make_the_same_levels(assemble, shape):
    check_chains(assemble, shape, lambda work, frames: getattr(cupy_chains, work.chain)(np, *ordered(work, frames)))


@pytest.mark.parametrize("shape", [(1, 1), (300, 517), (512, 700)])
def test_the_chains_of_torch_make_the_same_levels(assemble, shape):
    torch = pytest.importorskip("torch")

    def levels(work, frames):
        arguments = ordered(work, frames)
        if work.chain == "segmentation":
            arguments = arguments[0].view(np.int32), arguments[1]
        given = [torch.from_numpy(a.copy()) if isinstance(a, np.ndarray) else a for a in arguments]
        return [level.numpy() for level in getattr(torch_chains, work.chain)(torch, *given)]

    check_chains(assemble, shape, levels)


def ordered(work, frames):
    return (frames, work.argument) if work.chain == "depth" else (work.argument, frames)


def check_chains(assemble, shape, make):
    for work in works():
        frame = random_frame((*shape, *work.shape[2:]), work.dtype, 5)
        if work.chain == "segmentation":
            frame %= 7
        blocks = list(work.call(NumpyBackend(), frame))
        levels = make(work, frame[None])
        if work.chain == "image":
            expected = assemble(blocks, np.float16, 4)
            for one, other in zip(expected, levels, strict=True):
                # torch sums the four in another order; a float16 below 1 has steps of 2^-11
                np.testing.assert_allclose(other[0].astype(np.float32), one.astype(np.float32), rtol=0, atol=2**-11)
        elif work.chain == "depth":
            for one, other in zip(assemble(blocks, np.float32, 1), levels, strict=True):
                np.testing.assert_array_equal(other[0], one[..., 0])
        else:
            ids, colors = assemble(blocks, np.uint8, 1, "ids"), assemble(blocks, np.uint32, 1, "colors")
            expected = [level for pair in zip(ids, colors, strict=True) for level in pair]
            for one, other in zip(expected, levels, strict=True):
                np.testing.assert_array_equal(other[0].view(one.dtype), one[..., 0])


class DeviceClock:
    """An EventTimer without events."""

    def __init__(self, stream):
        self.late = 1

    def take_turns(self, contenders, rounds):
        for enqueue in contenders.values():
            enqueue(0)
        return {name: [1.0] * rounds for name in contenders}


@pytest.fixture
def small(monkeypatch):
    """The sections on a CPU, with frames of a few texels."""
    for module in (kernels, to_host, backends):
        monkeypatch.setattr(module, "CudaDevice", CpuDevice)
    monkeypatch.setattr(kernels, "EventTimer", DeviceClock)
    monkeypatch.setattr(kernels, "SIZES", {"tiny": (30, 40)})
    monkeypatch.setattr(kernels, "BATCH_BYTES", 300_000)
    for module in (to_host, backends):
        monkeypatch.setattr(module, "HEIGHT_4K", 70)
        monkeypatch.setattr(module, "WIDTH_4K", 90)
    monkeypatch.setattr(backends, "POINTS", 1000)
    monkeypatch.setattr(to_host, "COPY_BYTES", 1 << 16)


@pytest.mark.parametrize("section", [kernels, to_host, backends], ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_section_makes_its_table(small, section):
    findings = Findings()
    section.measure(findings, quick=True)
    assert findings.failures == []
    (table,) = findings.tables
    assert table.rows
    assert table.markdown()
    assert table.as_json()["seconds"]


def test_a_kernel_that_fails_leaves_the_others(small, monkeypatch):
    monkeypatch.setattr(CpuDevice, "launch", broken_for_depth(CpuDevice.launch))
    findings = Findings()
    kernels.measure(findings, quick=True)
    assert [row[0] for row in findings.tables[0].rows] == [
        "image u8 RGB tiny, linear",
        "image u8 RGB tiny, srgb8",
        "image u8 RGB tiny, rgba32float",
        "image f32 RGB tiny, linear",
        "segmentation u8 tiny",
    ]
    assert [f.partition(":")[0] for f in findings.failures] == ["depth u16 tiny", "depth f32 tiny"]


def broken_for_depth(launch):
    def other(self, kernel, arguments, blocks, stream):
        if kernel.name == "depth_tiles":
            raise RuntimeError("CUDA_ERROR_LAUNCH_FAILED")
        return launch(self, kernel, arguments, blocks, stream)

    return other


def test_findings_survive_the_process_that_had_them(tmp_path):
    findings = Findings(file=tmp_path / "findings")
    with findings.attempt("a section"):
        findings.note("a note")
        findings.add(Table(title="one", columns=("a",), rows=[[1]]))
        findings.add(Table(title="one", columns=("a",), rows=[[2]]))
        raise ValueError("what was wrong")
    other = Findings(file=tmp_path / "findings")
    other.load()
    assert [table.rows for table in other.tables] == [[[2]]]
    assert (other.notes, other.failures) == (["a note"], ["a section: ValueError: what was wrong"])


def test_results_say_what_has_failed_and_what_was_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "_machine", lambda: {"device": "none", "commit": "unknown"})
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", f"kernels{os.pathsep}.")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert command.main(["--out", str(tmp_path), "--only", "sanitizer", "kernels"]) == 1
    text = (tmp_path / "gpu.md").read_text()
    assert "compute-sanitizer is not on the PATH" in text
    assert "- kernels: lumatile_kernels.backend.BackendUnavailableError: backend 'cuda' needs" in text
    assert (tmp_path / "gpu.json").exists()


def test_a_section_that_hangs_is_stopped_and_leaves_what_it_had(tmp_path):
    slow = """
import sys, time
from pathlib import Path
from benchmarks.gpu_check import __main__ as command
class SlowSection:
    name = "slow"
    def measure(self, findings, *, quick):
        findings.note("half of it")
        time.sleep(60)
command.run_here(SlowSection(), Path(sys.argv[1]), quick=True, seconds=0.5)
"""
    done = ran("-c", slow, str(tmp_path / "findings"))
    assert done.returncode == -signal.SIGALRM
    findings = Findings(file=tmp_path / "findings")
    findings.load()
    assert findings.notes == ["half of it"]


def test_what_there_was_no_time_for_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_machine", lambda: {"device": "none"})
    assert command.main(["--out", str(tmp_path), "--only", "kernels", "--minutes", "0"]) == 1
    assert "- kernels: not run, the time was used up" in (tmp_path / "gpu.md").read_text()


def test_without_a_device_nothing_is_written_and_one_line_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = ran("-m", "benchmarks.gpu_check", "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no CUDA device answers" in done.stderr
    assert "backend 'cuda' needs" in done.stderr
    assert not (tmp_path / "out").exists()


def test_it_imports_nothing_but_numpy():
    modules = [f"benchmarks.gpu_check.{p.stem}" for p in (ROOT / "benchmarks/gpu_check").glob("[a-z]*.py")]
    blocked = ["psutil", "pyarrow", "PIL", "lumatile", "torch", "numba", "nvidia", "simplejpeg", "cupy", "skimage"]
    done = ran("-c", f"import sys; sys.modules |= dict.fromkeys({blocked}); import {', '.join(modules)}")
    assert done.returncode == 0, done.stderr


def test_the_ring_begins_again_and_lends_pages():
    pinned = []
    ring = PinnedRing(lambda memory: pinned.append(len(memory)) or pinned.clear, 3 * 4096)
    first, second = ring.allocate(5000), ring.allocate(10)
    assert pinned == [3 * 4096]
    assert second.ctypes.data - first.ctypes.data == 2 * 4096
    assert ring.allocate(4097).ctypes.data == first.ctypes.data
    with pytest.raises(ValueError, match="a buffer may have"):
        ring.allocate(3 * 4096 + 1)
    kept = ring.keep(np.arange(6, dtype=np.uint16).reshape(2, 3))
    assert kept.tolist() == [[0, 1, 2], [3, 4, 5]]
    ring.close()
    assert pinned == []


def test_light_is_the_table_that_the_kernels_have():
    assert works()[0].argument is tables.srgb_to_linear(np.dtype(np.uint8))


@pytest.mark.gpu
@pytest.mark.parametrize("section", ["correctness", "kernels", "chains", "to_host", "backends"])
def test_on_a_gpu_a_section_passes(gpu, tmp_path, section):
    done = ran("-m", "benchmarks.gpu_check", "--quick", "--only", section, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gpu.md").exists()
