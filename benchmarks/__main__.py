"""`python -m benchmarks [name ...] [--quick] [--out DIR] [--disk DIR]`."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from benchmarks import end_to_end, jpeg, kernels, log_call, memory, reading
from benchmarks.machine import describe_machine
from benchmarks.options import Options
from benchmarks.scratch import ROOT, scratch
from benchmarks.table import Table
from benchmarks.warm_memory import warm_memory

BENCHMARKS = {
    "kernels": kernels.measure,
    "end_to_end": end_to_end.measure,
    "log_call": log_call.measure,
    "memory": memory.measure,
    "reading": reading.measure,
    "jpeg": jpeg.measure,
}
FIRST_WARM_BYTES = 4 << 30


def main() -> None:
    """Run what is named, or all; print the tables, write them as Markdown and JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Lumatile beside its peers.")
    parser.add_argument("names", nargs="*", metavar="name", choices=[*BENCHMARKS, []], help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="fewer frames and rounds: under two minutes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="where results go")
    parser.add_argument("--disk", type=Path, default=ROOT, help="directory on the file system to measure")
    arguments = parser.parse_args()
    tables: list[Table] = []
    with scratch(arguments.disk) as disk:
        machine = describe_machine(disk)
        print(_heading(machine))
        for name in arguments.names or BENCHMARKS:
            warm_memory(FIRST_WARM_BYTES)
            start = time.monotonic()
            for table in BENCHMARKS[name](Options(quick=arguments.quick, disk=disk)):
                tables.append(table)
                print(table.markdown())
            print(f"({name}: {time.monotonic() - start:.0f} s)\n", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    stem = arguments.out / ("quick" if arguments.quick else "results")
    stem.with_suffix(".md").write_text("\n".join([_heading(machine), *(table.markdown() for table in tables)]))
    result = {"machine": machine, "quick": arguments.quick, "tables": [table.as_json() for table in tables]}
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


def _heading(machine: dict[str, str]) -> str:
    return "\n".join(["# Benchmarks", "", *(f"- {name}: {value}" for name, value in machine.items()), ""])


if __name__ == "__main__":
    main()
