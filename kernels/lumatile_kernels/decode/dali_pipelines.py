"""NVIDIA DALI's image decoder as warm pipelines, which survive neither a fork nor the end of the process."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from lumatile_kernels.decode.dali_places import Place
from lumatile_kernels.fork import hold_across_fork

Pictures = TypeVar("Pictures")

PIPELINES_IN_USE = threading.Lock()
"""Held while DALI is imported and while a pipeline runs, and during a fork."""


class DaliPipelines:
    """One pipeline for gray and one for color files, made on first use. May be used by several threads."""

    def __init__(self, place: Place, threads: int) -> None:
        """`threads`: of DALI. Raises ImportError without DALI."""
        with PIPELINES_IN_USE:
            import nvidia.dali
        self.version: str = nvidia.dali.__version__
        self.ended = False
        """Whether the process ends."""
        self._place = place
        self._threads = threads
        self._warm: dict[int, Any] = {}
        """By number of components."""
        _ALL.add(self)
        atexit.register(self._end)  # after DALI's own, so it runs before: DALI wants all pipelines gone

    def run(self, files: Sequence[bytes], components: int, take: Callable[[Any], Pictures]) -> Pictures:
        """What `take` makes of the pictures of gray (1) or color (3) files: a list of DALI's tensors, (h, w, 1 | 3).

        They are ready, and DALI's again when `take` returns. Raises RuntimeError and others if DALI fails on any file.
        """
        with PIPELINES_IN_USE:
            if self.ended:
                raise RuntimeError("the process ends")
            # taken out meanwhile: DALI calls a pipeline invalid after an error
            pipeline = self._warm.pop(components, None) or self._build(components)
            pipeline.feed_input("files", [np.frombuffer(file, np.uint8) for file in files])
            (tensors,) = pipeline.run()  # without a stream of ours the host waits, on a GPU too
            self._warm[components] = pipeline
            return take(tensors)

    def close(self) -> None:
        """Give up what is warm. To be called with `PIPELINES_IN_USE` held."""
        self._warm.clear()

    def _end(self) -> None:
        with PIPELINES_IN_USE:
            self.ended = True
            self.close()

    def _build(self, components: int) -> Any:
        pipeline = self.define(components)
        pipeline.build()
        return pipeline

    def define(self, components: int) -> Any:
        """The graph of a pipeline. That needs no GPU; building it does if it has a CUDA ordinal."""
        from nvidia.dali import Pipeline, fn, types

        place = self._place
        pipeline = Pipeline(
            batch_size=place.batch_files, num_threads=self._threads, device_id=place.number, prefetch_queue_depth=1
        )
        with pipeline:
            pictures = fn.decoders.image(
                fn.external_source(name="files", device="cpu"),
                device=place.operator_device,
                output_type=types.GRAY if components == 1 else types.RGB,  # ANY_DATA kills the process on gray
                use_fast_idct=False,
                **place.options,
            )
            pipeline.set_outputs(pictures)
        return pipeline


_ALL: weakref.WeakSet[DaliPipelines] = weakref.WeakSet()


def _close_all() -> None:
    """Before a fork: a child that inherits a pipeline without its threads waits for them forever when it exits."""
    for pipelines in list(_ALL):
        pipelines.close()


hold_across_fork(PIPELINES_IN_USE, _close_all)
