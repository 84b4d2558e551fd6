"""The common part of the sources of frames and tiles: read tasks over the parts of a snapshot."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from lumatile.errors import InvalidValueError
from lumatile_service.ray_data.snapshot import Part, Snapshot


class RecordingSource(Datasource):  # type: ignore[misc]
    """A recording, or a part of it, as a dataset."""

    def __init__(self, snapshot: Snapshot, columns: Sequence[str]) -> None:
        """Keep a snapshot. `columns`: the names of all columns that rows can have."""
        super().__init__()
        self._projection_map: dict[str, str] | None = None
        """The columns that are wanted; Ray sets them on a copy."""
        self._snapshot = snapshot
        self._every_column = columns

    def supports_projection_pushdown(self) -> bool:
        """Return True: Ray says which columns are wanted."""
        return True

    def estimate_inmemory_data_size(self) -> int:
        """Return the approximate size of the dataset in memory, in bytes."""
        return int(self._weights().sum())

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: Any = None,  # noqa: ARG002
    ) -> list[ReadTask]:
        """Return at most `parallelism` tasks, each for the frames of some segments or a part of a large one."""
        weights = self._weights()
        return [
            ReadTask(
                self._reader(part),
                BlockMetadata(
                    num_rows=self._row_count(rows),
                    size_bytes=int(weights[rows].sum()),
                    input_files=part.files,
                    exec_stats=None,
                ),
                per_task_row_limit=per_task_row_limit,
            )
            for part, rows in self._snapshot.parts(parallelism, weights)
        ]

    @property
    def columns(self) -> list[str]:
        """The columns that are wanted. Raises InvalidValueError for one that does not exist."""
        wanted = self.get_projection_map()
        if wanted is None:
            return list(self._every_column)
        if unknown := sorted(set(wanted) - set(self._every_column)):
            raise InvalidValueError(f"columns must be among {list(self._every_column)}, not {unknown}")
        return [name for name in self._every_column if name in wanted] or [self._every_column[0]]  # Ray counts rows

    @abstractmethod
    def _weights(self) -> NDArray[Any]:
        """Return (n,): the approximate bytes in memory of what is read of each frame."""

    @abstractmethod
    def _row_count(self, frames: slice) -> int | None:
        """Return the number of rows that these frames become; None: unknown."""

    @abstractmethod
    def _reader(self, part: Part) -> Callable[[], Iterator[pa.Table]]:
        """Return a function that reads a part; it can be pickled."""
