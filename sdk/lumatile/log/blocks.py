"""The recordings of `with` blocks: each is current where its block runs, whatever runs in between.

A context variable holds them, so that each asyncio task has its own; a task that begins in a block is in it. A
generator shares the context of its caller. So a block in a generator is current only while that generator runs, which
its frame on the stack tells, and not while it waits at a `yield`. A block of a `@contextmanager` function is current in
the block that uses that function.
"""

from __future__ import annotations

import contextlib
import inspect
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lumatile.log.recording import RecordingStream  # for annotations only: a recording's block uses this module

GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


@dataclass(kw_only=True, eq=False)
class _Block:
    recording: RecordingStream
    generator: FrameType | None
    """The frame of the generator that the block is in; None: it is in none."""

    @property
    def runs(self) -> bool:
        """Whether the code that runs now is in the block."""
        return self.generator is None or _is_running(self.generator)


_BLOCKS: ContextVar[tuple[_Block, ...]] = ContextVar("lumatile_blocks", default=())
"""The blocks that this context is in, the outermost first."""


def enter(recording: RecordingStream) -> None:
    """Begin a block of the code that calls the recording's `__enter__`, which calls this."""
    own = inspect.currentframe()
    method = None if own is None else own.f_back
    generator = None if method is None else _generator(method.f_back)
    _BLOCKS.set((*_BLOCKS.get(), _Block(recording=recording, generator=generator)))


def leave(recording: RecordingStream) -> None:
    """End the innermost block of `recording` that runs."""
    blocks = _BLOCKS.get()
    for i in range(len(blocks) - 1, -1, -1):
        if blocks[i].recording is recording and blocks[i].runs:
            _BLOCKS.set(blocks[:i] + blocks[i + 1 :])
            return


def recording_of_block() -> RecordingStream | None:
    """Return the recording of the innermost block that runs; None: there is none."""
    for block in reversed(_BLOCKS.get()):
        if block.runs:
            return block.recording
    return None


def _is_running(frame: FrameType) -> bool:
    at = inspect.currentframe()
    while at is not None and at is not frame:
        at = at.f_back
    return at is not None


def _generator(frame: FrameType | None) -> FrameType | None:
    """Return the frame of the generator that a block begins in, where `frame` calls `__enter__`; None: in none."""
    while frame is not None:
        code, caller = frame.f_code, frame.f_back
        of_manager = caller is not None and caller.f_code.co_filename == contextlib.__file__
        if code.co_filename != contextlib.__file__ and not (code.co_flags & GENERATOR and of_manager):
            return frame if code.co_flags & GENERATOR else None
        frame = caller
    return None
