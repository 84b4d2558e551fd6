"""A batch job: the parts of its work, the kinds of files, other tools, and the engine on Ray."""

from __future__ import annotations

from benchmarks.batch.parts import parts
from benchmarks.batch.peers import peers
from benchmarks.batch.sizes import sizes
from benchmarks.harness.options import Options
from benchmarks.harness.scratch import scratch
from benchmarks.harness.table import Table


def measure(options: Options) -> list[Table]:
    """Return the tables of the parts of the work, the kinds of files, other tools, and the engine on Ray."""
    with scratch(options.disk) as folder:
        return [parts(options, folder), sizes(options, folder), *peers(options, folder)]
