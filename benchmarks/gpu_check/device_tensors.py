"""Tensors of CuPy and PyTorch on the device: copied without waiting, then turned into tiles like any other frame."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_check.findings import Findings, last_line
from benchmarks.gpu_check.frames import METER, extreme_frame, random_frame, random_palette
from benchmarks.gpu_check.gpu import absent
from benchmarks.harness.table import Table
from lumatile_kernels.backend import Backend
from lumatile_kernels.cuda.backend import CudaBackend
from lumatile_kernels.device import Device
from lumatile_kernels.host.numpy_backend import NumpyBackend
from lumatile_kernels.selection import select_host_backend

Make = Callable[[Backend, Any], Any]
"""Returns the blocks of a frame, or an answer about it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorCase:
    """A tensor on the device, and its content."""

    name: str
    value: Any
    host: NDArray[Any]
    """The same content, C-contiguous."""
    make: Make
    stream: Any = None
    """The stream that the caller uses, as a context manager; None: the default of the library."""
    spoil: Callable[[], object] | None = field(default=None)
    """The change that the caller makes to the tensor right after the call."""


def check_tensors(findings: Findings, device: Device, library: str) -> None:
    """Compare all tensors of a library, after `snapshot` and the backend, with numpy; add a table."""
    if why := absent(library):
        findings.note(why)
        return
    try:
        from lumatile_kernels.cuda.tensors import snapshot
    except ImportError as e:
        findings.note(f"tensors on the device: {e}")
        return
    from benchmarks.gpu_check.correctness import difference_of, no_warnings

    backend = CudaBackend(device, select_host_backend)
    cases = same = 0
    for tensor in _tensors(library):
        cases += 1
        expected = _answer(tensor.make(NumpyBackend(), tensor.host))
        try:
            with no_warnings():
                copy = _snapshot_of(tensor, snapshot)
                if copy is None:
                    raise RuntimeError("no copy was made on the device")  # noqa: TRY301
                difference = difference_of([expected], [_answer(tensor.make(backend, backend.admit(copy)))])
                if not difference and copy.host().tobytes() != tensor.host.tobytes():
                    difference = "host() gives other bytes than the tensor had"
        except Exception as e:  # noqa: BLE001 - a case that fails differs
            difference = last_line(e)
        if difference:
            findings.failures.append(f"tensors: {library}: {tensor.name}: {difference}")
            print(f"DIFFERS {findings.failures[-1]}", flush=True)
        else:
            same += 1
    findings.add(
        Table(
            title=f"Tensors of {library}",
            columns=("cases", "identical"),
            rows=[[cases, same]],
            notes=["Copied on the device, on the caller's stream; overwritten by the caller right after the call."],
        )
    )


def _snapshot_of(tensor: TensorCase, snapshot: Callable[[Any], Any]) -> Any:
    if tensor.stream is None:
        copy = snapshot(tensor.value)
        if tensor.spoil is not None:
            tensor.spoil()
        return copy
    with tensor.stream:
        copy = snapshot(tensor.value)
        if tensor.spoil is not None:
            tensor.spoil()
    return copy


def _answer(found: Any) -> Any:
    return found if isinstance(found, bool) else list(found)


def _image(backend: Backend, frame: Any) -> Any:
    return backend.image(frame)


def _srgb8(backend: Backend, frame: Any) -> Any:
    return backend.image(frame, tile_format="srgb8")


def _depth(backend: Backend, frame: Any) -> Any:
    return backend.depth(frame, meter=METER)


def _ids(backend: Backend, frame: Any) -> Any:
    return backend.segmentation(frame, palette=random_palette(256, 3))


def _opaque(backend: Backend, frame: Any) -> Any:
    return backend.is_opaque(frame)


FRAMES: tuple[tuple[str, tuple[int, ...], str, Make], ...] = (
    ("image u8", (513, 700, 3), "u1", _image),
    ("image u8, of one texel", (1, 1, 3), "u1", _srgb8),
    ("image f16", (257, 300, 4), "f2", _image),
    ("image f32", (300, 257, 3), "f4", _srgb8),
    ("image f64", (100, 100, 1), "f8", _image),
    ("depth f32", (480, 640), "f4", _depth),
    ("segmentation u8", (480, 640), "u1", _ids),
    ("is_opaque, no", (480, 640, 4), "u1", _opaque),
)


def _tensors(library: str) -> Iterator[TensorCase]:
    module = importlib.import_module(library)
    upload = module.asarray if library == "cupy" else (lambda array: module.from_numpy(array).cuda())
    for seed, (name, shape, dtype, make) in enumerate(FRAMES):
        host = extreme_frame(shape, dtype, seed)
        yield _spoiled(name, upload(host.copy()), host, make)
    opaque = random_frame((480, 640, 4), "u1", 9)
    opaque[..., 3] = 255
    yield _spoiled("is_opaque, yes", upload(opaque.copy()), opaque, _opaque)
    wide = random_frame((300, 400, 3), "u1", 10)
    yield _spoiled("a part of an image", upload(wide.copy())[5:-7, 11:-13], wide[5:-7, 11:-13].copy(), _image)
    planes = random_frame((3, 300, 400), "f4", 11)
    permuted = np.ascontiguousarray(planes.transpose(1, 2, 0))
    value = upload(planes.copy())
    turned = value.transpose(1, 2, 0) if library == "cupy" else value.permute(1, 2, 0)
    yield _spoiled("channels first, permuted", turned, permuted, _image)
    yield from _cupy_only(module) if library == "cupy" else _torch_only(module)


def _spoiled(name: str, value: Any, host: NDArray[Any], make: Make) -> TensorCase:
    def spoil() -> None:
        value[...] = 0

    return TensorCase(name=name, value=value, host=host, make=make, spoil=spoil)


def _cupy_only(cupy: Any) -> Iterator[TensorCase]:
    host = random_frame((300, 400, 3), "u1", 12)
    yield _spoiled("negative strides", cupy.asarray(host)[::-1, ::-2], host[::-1, ::-2].copy(), _image)
    depth = extreme_frame((480, 640), "u2", 13)
    yield _spoiled("depth u16", cupy.asarray(depth), depth, _depth)
    stream = cupy.cuda.Stream(non_blocking=True)
    busy = cupy.zeros(1 << 26, cupy.uint8)
    value = cupy.zeros(host.shape, cupy.uint8)
    content = cupy.asarray(host)
    cupy.cuda.Device().synchronize()
    with stream:  # the content comes late, after long work on the caller's stream
        for _ in range(200):
            busy.data.memset_async(1, busy.nbytes, stream)
        value.data.copy_from_device_async(content.data, content.nbytes, stream)
    tensor = _spoiled("on a busy stream", value, host, _image)
    yield TensorCase(name=tensor.name, value=value, host=host, make=_image, stream=stream, spoil=tensor.spoil)


def _torch_only(torch: Any) -> Iterator[TensorCase]:
    host = random_frame((300, 400, 3), "f4", 14)
    brain = torch.from_numpy(host).cuda().to(torch.bfloat16)
    yield _spoiled("bfloat16", brain, brain.float().cpu().numpy().copy(), _image)
    learned = torch.from_numpy(host).cuda().requires_grad_()

    def spoil() -> None:
        with torch.no_grad():
            learned.zero_()

    yield TensorCase(name="with a gradient", value=learned, host=host, make=_image, spoil=spoil)
    stream = torch.cuda.Stream()
    content = torch.from_numpy(host).cuda()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)  # noqa: SLF001 - tens of milliseconds; torch has no public one
        value = torch.empty_like(content)
        value.copy_(content)
    tensor = _spoiled("on a busy stream", value, host, _image)
    yield TensorCase(
        name=tensor.name, value=value, host=host, make=_image, stream=torch.cuda.stream(stream), spoil=tensor.spoil
    )
