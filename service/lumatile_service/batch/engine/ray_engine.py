"""The engine on Ray Data, in an existing Ray or in one that is started for the job."""

from __future__ import annotations

import contextlib
import sys

from lumatile.errors import InvalidValueError
from lumatile_service.batch.job import Job
from lumatile_service.cluster.ray_session import ray_session

OBJECT_STORE_BYTES = 512 << 20
"""The size of the object store in a Ray started for the job: the content of shards goes through it."""


def run_on_ray(job: Job, *, address: str | None) -> None:
    """Run a job, as an `Engine`, on Ray Data. `address`: as in `ingest`. Raises InvalidValueError without Ray."""
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
    """Return whether this process is connected to a Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())
