"""Tensors on a GPU: log calls copy them there, on the caller's stream, and wait for nobody.

There is no GPU here: the device is the CPU (see cuda_on_cpu), and the libraries' tensors are stand-ins that say of
themselves what torch's, CuPy's and JAX's do.

Longer than other files: its tests share the stand-ins of four tensor libraries.
"""

import logging
import sys
import types

import numpy as np
import pytest
from tests.kernels.cuda.cuda_on_cpu.device import CpuDevice

import lumatile as lt
from lumatile.sink.memory import VALUES
from lumatile_kernels.cuda import arrays, tensors
from lumatile_kernels.cuda.arrays import DeviceArray

STREAM = 0x7F00


@pytest.fixture
def device(monkeypatch):
    device = CpuDevice()
    monkeypatch.setattr(arrays, "DEVICES", {0: device})
    monkeypatch.setattr(arrays, "current_device", lambda: device)
    monkeypatch.setattr(tensors, "_SAID", set())
    current = types.SimpleNamespace(cuda_stream=STREAM, ptr=STREAM)
    cuda = types.SimpleNamespace(current_stream=lambda _: current, get_current_stream=lambda _: current)
    for library in ("torch", "cupy"):
        monkeypatch.setitem(sys.modules, library, types.SimpleNamespace(cuda=cuda))
    return device


class DlpackTensor:
    """What the stand-ins have in common; `array` is the device's memory."""

    def __init__(self, array, number=0):
        self.array, self.number = array, number

    def __dlpack_device__(self):
        return 2, self.number

    def __dlpack__(self, **_):
        raise BufferError("numpy cannot read a GPU")


class TorchTensor(DlpackTensor):
    @property
    def shape(self):
        return self.array.shape

    @property
    def dtype(self):
        return f"torch.{self.array.dtype}"

    def detach(self):
        return self

    def is_neg(self):
        return False

    def contiguous(self):
        return TorchTensor(np.ascontiguousarray(self.array))

    def data_ptr(self):
        return self.array.ctypes.data

    def cpu(self):
        return self.array.copy()


class CupyArray(DlpackTensor):
    def get(self):
        return self.array.copy()


class JaxArray(DlpackTensor):
    def __array__(self, dtype=None, copy=None):
        return self.array.copy()


class NumbaArray:
    def __init__(self, array, stream=STREAM):
        self.array = array
        self.__dict__["stream"] = stream

    @property
    def __cuda_array_interface__(self):
        return {"stream": self.stream}


TorchTensor.__module__, CupyArray.__module__, JaxArray.__module__ = "torch", "cupy", "jaxlib.xla"


@pytest.fixture(params=[TorchTensor, CupyArray, JaxArray, NumbaArray], ids=["torch", "cupy", "jax", "numba"])
def tensor(request):
    return request.param


def photo(height=70, width=300, channels=3, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 200, (height, width, channels)).astype(dtype)


def test_a_snapshot_is_private(device, tensor):
    array = photo()
    before = array.copy()
    copy = tensors.snapshot(tensor(array))
    array[:] = 0
    assert copy.shape == before.shape
    assert copy.dtype == before.dtype
    assert (copy.host() == before).all()


@pytest.mark.parametrize("kind", [TorchTensor, CupyArray, NumbaArray])
def test_the_copy_is_made_on_the_callers_stream_and_nobody_waits(device, kind, monkeypatch):
    monkeypatch.setattr(device, "synchronize", lambda _: pytest.fail("the call waits"))
    tensors.snapshot(kind(photo()))
    assert device.borrowed == [STREAM]


def test_nobody_waits_for_what_cannot_be_changed(device, monkeypatch):
    monkeypatch.setattr(device, "synchronize", lambda _: pytest.fail("the call waits"))
    tensors.snapshot(JaxArray(photo()))
    assert device.borrowed == []


def test_a_tensor_whose_stream_is_unknown_is_waited_for(device, monkeypatch):
    waited = []
    monkeypatch.setattr(device, "synchronize", waited.append)
    tensors.snapshot(DlpackTensor(photo()))
    tensors.snapshot(NumbaArray(photo(), stream=None))
    assert len(waited) == 2


def test_what_is_not_contiguous_is_made_so(device, tensor):
    array = photo()[::-1, ::-2]
    assert (tensors.snapshot(tensor(array)).host() == array).all()


def test_memory_is_reused_once_the_last_array_is_gone(device):
    first = tensors.snapshot(CupyArray(photo()))
    view = first.reshape((300, 70, 3))
    allocations = device.allocations
    del first
    tensors.snapshot(CupyArray(photo()))
    assert device.allocations == allocations + 1, "a view still holds the first"
    del view
    for _ in range(20):
        tensors.snapshot(CupyArray(photo()))
    assert device.allocations == allocations + 1


@pytest.mark.parametrize("backend", ["cuda", "numpy"])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_what_was_logged_on_a_gpu_is_stored_like_any_other(device, tensor, tmp_path, backend, compression):
    images = {
        "u8": photo(),
        "translucent": photo(channels=4),
        "opaque": np.concatenate([photo(), np.full((70, 300, 1), 255, np.uint8)], axis=2),
        "float": photo(dtype=np.float32) / 200,
        "u16": photo(dtype=np.uint16),
        "batch of one": photo()[None],
    }
    depths = {"depth u16": photo(dtype=np.uint16)[..., 0], "depth f64": photo(dtype=np.float64)[..., 1]}
    ids = {"u8 ids": photo()[..., 0], "bool": photo()[..., 0] > 100, "int64": photo(dtype=np.int64)[..., :1]}
    for store, wrapped in (("host", lambda array: array), ("device", tensor)):
        recording = lt.new_recording("test", "r", compression=compression, strict=True)
        recording.save(tmp_path / store, backend=backend if store == "device" else "numpy")
        for name, array in images.items():
            recording.log_image(name, wrapped(array))
        for name, array in depths.items():
            recording.log_depth_image(name, wrapped(array), meter=100)
        for name, array in ids.items():
            recording.log_segmentation_image(name, wrapped(array))
        recording.disconnect()
    host, on_device = (lt.open_store(tmp_path / store).recording("r") for store in ("host", "device"))
    for name, array in (images | depths | ids).items():
        expected, frame = host.latest_at(name), on_device.latest_at(name)
        assert frame.kind == expected.kind
        assert frame.shape == expected.shape
        assert frame.levels == expected.levels
        source = frame.source()
        assert source.dtype == array.dtype
        assert source.shape == array.shape
        assert (source == array).all()
        for level in range(len(frame.levels)):
            read = {"image": "image", "depth": "depth", "segmentation": "colors"}[frame.kind]
            assert (getattr(frame, read)(level=level) == getattr(expected, read)(level=level)).all()
    columns = ["entity_path", "source", "source_shape", "source_dtype", "tile_count", "levels", "tile_format"]
    assert on_device.frames_table().select(columns).equals(host.frames_table().select(columns))


def test_frames_logged_faster_than_they_are_computed_share_launches(device, tmp_path):
    recording = lt.new_recording("test", "r")
    recording.save(tmp_path, backend="cuda")
    with recording._outlet._sink._pipeline._lock:  # the consumer is busy meanwhile
        for i in range(40):
            recording.log_image("x", CupyArray(photo() + np.uint8(i)))
    recording.disconnect()
    frames = lt.open_store(tmp_path).recording("r").frames("x")
    assert len(frames) == 40
    for i, frame in enumerate(frames):
        assert (frame.source() == photo() + np.uint8(i)).all()
    assert device.launches < 10


def test_a_tensor_on_another_gpu_goes_through_the_host(device, tmp_path, monkeypatch):
    other = CpuDevice(number=1)
    monkeypatch.setitem(arrays.DEVICES, 1, other)
    recording = lt.new_recording("test", "r", strict=True)
    recording.save(tmp_path, backend="cuda")
    recording.log_image("x", CupyArray(photo(), number=1))
    recording.disconnect()
    assert (lt.open_store(tmp_path).recording("r").latest_at("x").source() == photo()).all()


def test_without_room_on_the_gpu_a_tensor_goes_to_the_host_at_the_call(device, caplog):
    device.room = 100
    recording = lt.new_recording("test", "r", strict=True, sink="memory://no-room")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            recording.log_image("x", TorchTensor(photo()))
    assert all(isinstance(value.array, np.ndarray) and (value.array == photo()).all() for value in VALUES["no-room"])
    assert len(VALUES["no-room"]) == 3
    assert len([r for r in caplog.records if "could not be kept on its GPU" in r.message]) == 1


def test_without_cupy_a_tensor_goes_to_the_host_at_the_call(monkeypatch, caplog):
    monkeypatch.setattr(arrays, "DEVICES", {})
    monkeypatch.setattr(tensors, "_SAID", set())
    recording = lt.new_recording("test", "r", strict=True, sink="memory://no-cupy")
    recording.log_image("x", TorchTensor(photo()))  # there is no driver here either
    assert (VALUES["no-cupy"][0].array == photo()).all()
    assert "copied to the host at the call" in caplog.text


def test_bad_tensors_have_the_errors_that_bad_arrays_have(device, tensor):
    recording = lt.new_recording("test", "r", strict=True, sink="memory://bad")
    with pytest.raises(lt.LumatileError, match=r"HxW, HxWx1, HxWx3 or HxWx4, not \(3, 70, 300\); channels come last"):
        recording.log_image("x", tensor(photo().transpose(2, 0, 1)))
    with pytest.raises(lt.LumatileError, match="must be of dtype uint8, uint16, float16, float32, float64, not int64"):
        recording.log_image("x", tensor(photo(dtype=np.int64)))
    with pytest.raises(lt.LumatileError, match="class ids must be 0 to 65535, not -7"):
        recording.log_segmentation_image("x", tensor(np.array([[3, 70000], [-7, -2]], np.int32)))
    with pytest.raises(lt.LumatileError, match="array of numbers, not dtype complex64"):
        recording.log_image("x", tensor(np.zeros((3, 3), np.complex64)))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint32", "uint64"])
def test_wide_class_ids_are_narrowed_on_the_gpu(device, tmp_path, dtype):
    greatest = min(np.iinfo(dtype).max, 65535)
    ids = np.random.default_rng(0).integers(0, greatest + 1, (70, 300)).astype(dtype)
    ids[3, 5] = greatest
    wrong = {}
    if np.iinfo(dtype).max > greatest:
        wrong["above"] = ids.copy()
        wrong["above"][9, 9] = np.iinfo(dtype).max
    if np.iinfo(dtype).min < 0:
        wrong["below"] = ids.copy()
        wrong["below"][7, 7] = np.iinfo(dtype).min
    recording = lt.new_recording("test", "r")
    recording.save(tmp_path, backend="cuda")
    for name, array in {"right": ids, **wrong}.items():
        tensor = TorchTensor(array.copy())
        recording.log_segmentation_image(name, tensor)
        tensor.array[:] = 1
    recording.disconnect()
    stored = lt.open_store(tmp_path).recording("r")
    source = stored.latest_at("right").source()
    assert source.dtype == dtype
    assert (source == ids).all()
    errors = {
        row["entity_path"]: row["error"]
        for row in stored.frames_table().select(["entity_path", "error"]).to_pylist()
        if row["error"]
    }
    assert errors.keys() == wrong.keys()
    limits = {"above": np.iinfo(dtype).max, "below": np.iinfo(dtype).min}
    for name, error in errors.items():
        assert error.endswith(f"class ids must be 0 to 65535, not {limits[name]}")


def test_nobody_waits_for_wide_class_ids(device, monkeypatch):
    monkeypatch.setattr(device, "synchronize", lambda _: pytest.fail("the call waits"))
    recording = lt.new_recording("test", "r", sink="memory://wide")
    recording.log_segmentation_image("x", TorchTensor(np.full((3, 3), 70000)))
    assert VALUES["wide"][0].error is None
    assert recording.errors == 0


def test_points_and_annotations_take_tensors_too(device, tmp_path):
    positions = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    recording = lt.new_recording("test", "r", strict=True, sink=tmp_path)
    recording.log_points("p", TorchTensor(positions))
    recording.disconnect()
    assert (lt.open_store(tmp_path).recording("r").latest_at("p").points().positions == positions).all()


def test_a_device_array_is_read_only_in_every_way_but_its_shape():
    assert set(dir(DeviceArray)) & {"__setitem__", "__array__", "__iadd__"} == set()
