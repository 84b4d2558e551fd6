"""Pipelines of NVIDIA DALI's image decoder that stay ready; they do not survive a fork or the end of the process."""

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
"""A lock that is held while DALI is imported, while a pipeline runs, and during a fork."""


class DaliPipelines:
    """A pipeline for gray and one for color files, built at first use. Several threads may use this."""

    def __init__(self, place: Place, threads: int) -> None:
        """Import DALI; raise ImportError if it is missing. `threads`: the threads of a pipeline."""
        with PIPELINES_IN_USE:
            import nvidia.dali
        self.version: str = nvidia.dali.__version__
        self.ended = False
        """Whether the process is ending."""
        self._place = place
        self._threads = threads
        self._warm: dict[int, Any] = {}
        """The pipelines that are ready, by number of components."""
        _ALL.add(self)
        atexit.register(
            self._end
        )  # registered after DALI's own handler, so it runs before it: DALI requires that no pipeline is left

    def run(self, files: Sequence[bytes], components: int, take: Callable[[Any], Pictures]) -> Pictures:
        """Decode gray (1) or color (3) files, and return the result of `take` for their pictures.

        `take` gets a list of DALI's tensors, (h, w, 1 | 3), which are ready and which DALI uses again when `take` has
        returned. Raises RuntimeError and other errors if DALI fails on any file.
        """
        with PIPELINES_IN_USE:
            if self.ended:
                raise RuntimeError("the process ends")
            # taken out until it has run: after an error a pipeline is invalid
            pipeline = self._warm.pop(components, None) or self._build(components)
            pipeline.feed_input("files", [np.frombuffer(file, np.uint8) for file in files])
            (tensors,) = pipeline.run()  # the host waits for the pictures, on a GPU too, because no stream is given
            self._warm[components] = pipeline
            return take(tensors)

    def close(self) -> None:
        """Delete the pipelines. The caller holds `PIPELINES_IN_USE`."""
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
        """Return the graph of a pipeline. It needs no GPU until it is built."""
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
    """Delete all pipelines before a fork: a child with a pipeline but without its threads would never exit."""
    for pipelines in list(_ALL):
        pipelines.close()


hold_across_fork(PIPELINES_IN_USE, _close_all)
