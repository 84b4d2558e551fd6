"""`python -m benchmarks [name ...] [--quick] [--out DIR] [--disk DIR]`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks import batch, end_to_end, jpeg, kernels, log_call, memory, reading, scaling, service, small_values
from benchmarks.harness.machine import describe_machine
from benchmarks.harness.options import Options
from benchmarks.harness.scratch import ROOT, scratch
from benchmarks.harness.table import Table

BENCHMARKS = {
    "kernels": kernels.measure,
    "end_to_end": end_to_end.measure,
    "log_call": log_call.measure,
    "small_values": small_values.measure,
    "memory": memory.measure,
    "reading": reading.measure,
    "jpeg": jpeg.measure,
    "service": service.measure,
    "scaling": scaling.measure,
    "batch": batch.measure,
}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run the named benchmarks, or all; print the tables, and write a Markdown and a JSON file for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Lumatile and its peers.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(BENCHMARKS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="fewer frames and rounds: under two minutes")
    parser.add_argument("--out", type=Path, help="where results go; benchmarks/results, with --quick nowhere")
    parser.add_argument("--disk", type=Path, default=ROOT, help="directory on the file system to measure")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    out = arguments.out or (None if arguments.quick else RESULTS)
    with scratch(arguments.disk) as disk:
        machine = describe_machine(disk)
        print(_heading(machine))
        for name in arguments.names or BENCHMARKS:
            start = time.monotonic()
            tables = BENCHMARKS[name](Options(quick=arguments.quick, disk=disk))
            print(*(table.markdown() for table in tables), f"({name}: {time.monotonic() - start:.0f} s)\n", sep="\n")
            sys.stdout.flush()
            if out is not None:
                _write(out, name, machine, tables)


def _write(out: Path, name: str, machine: dict[str, str], tables: list[Table]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    markdown = "\n".join([_heading(machine), *(table.markdown() for table in tables)])
    (out / f"{name}.md").write_text(markdown)
    result = {"machine": machine, "tables": [table.as_json() for table in tables]}
    (out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def _heading(machine: dict[str, str]) -> str:
    return "\n".join(["# Benchmarks", "", *(f"- {name}: {value}" for name, value in machine.items()), ""])


if __name__ == "__main__":
    main()
