"""Log calls on Ray Data, in a Ray that is there or in one of their own."""

from __future__ import annotations

import contextlib
import sys

from lumatile.errors import InvalidValueError
from lumatile_service.batch.job import Job
from lumatile_service.cluster.ray_session import ray_session

OBJECT_STORE_BYTES = 512 << 20
"""Of a Ray of its own: what shards hold goes through it."""


def run_on_ray(job: Job, *, address: str | None) -> None:
    """The `Engine` on Ray Data, at `address` as `ingest` takes it. Raises InvalidValueError without Ray."""
    try:
        with contextlib.ExitStack() as stack:
            if address is not None or not _connected():
                stack.enter_context(ray_session(address, object_store_bytes=OBJECT_STORE_BYTES))
            from lumatile_service.batch.engine.ray_batches import run

            run(job)
    except ModuleNotFoundError as e:
        if e.name not in {"ray", "pandas"}:
            raise
        raise InvalidValueError(f"the engine 'ray' needs {e.name}: pip install 'lumatile[ray]'") from e


def _connected() -> bool:
    """Whether this process is connected to a Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())
