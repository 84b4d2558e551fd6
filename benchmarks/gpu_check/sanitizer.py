"""compute-sanitizer for the quick correctness cases: accesses, races, barriers, reads of uninitialised memory."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.gpu_check.findings import Findings, say
from benchmarks.harness.table import Cell, Table

COMMAND = "compute-sanitizer"

TOOLS: dict[str, tuple[str, ...]] = {
    "memcheck": ("--report-api-errors", "no"),  # CuPy makes exceptions of those
    "racecheck": (),
    "synccheck": (),
    # copies of whole payloads take the gaps between planes along, which nobody wrote and nobody reads
    "initcheck": ("--check-api-memory-access", "no"),
}

TIMEOUT = 240.0
"""The time limit of each tool, in seconds."""

MARGIN = 10.0
"""The seconds in which a tool must end after the process that it watches."""

FOUND = 99
"""The exit code of a run in which a tool has found an error."""

SHOWN = 6
"""The number of lines of a report that are quoted."""

NOTES = ("Over the quick correctness cases: all kernels, small frames, frames of two passes, points.",)


def measure(findings: Findings, *, quick: bool) -> None:
    """Add the table of tools, or a note if compute-sanitizer is absent."""
    if shutil.which(COMMAND) is None:
        findings.note(f"{COMMAND} is not on the PATH: no memory or race checks")
        return
    limit = min(TIMEOUT, findings.left - 2 * MARGIN)
    if limit < MARGIN:
        findings.note(f"{COMMAND}: not run, the time was used up")
        return
    tools = dict(list(TOOLS.items())[: 2 if quick else None])
    rows: list[list[Cell]] = []
    with ThreadPoolExecutor(len(tools)) as pool:  # nothing is timed any more
        runs = {tool: pool.submit(_run, tool, options, limit) for tool, options in tools.items()}
        for tool, run in runs.items():
            with findings.attempt(f"{COMMAND} {tool}"):
                outcome, lines, seconds = run.result()
                rows.append([tool, outcome, seconds])
                if outcome.startswith("found"):
                    findings.failures.append(f"{COMMAND} {tool}: {' | '.join(lines)}")
                elif outcome != "clean":
                    findings.note(f"{COMMAND} {tool}: {outcome}: {' | '.join(lines)}")
            findings.add(Table(title=COMMAND, columns=("tool", "outcome", "seconds"), rows=rows, notes=NOTES))


def _run(tool: str, options: tuple[str, ...], limit: float) -> tuple[str, list[str], float]:
    """Return the outcome ("clean", "found something" or the reason for no answer), the report, and the seconds."""
    say(f"    {COMMAND} --tool {tool}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inner = Findings(file=folder / "findings")
        watched = [sys.executable, "-m", "benchmarks.gpu_check", "--child", "correctness", str(inner.file), "--quick"]
        watched += ["--seconds", str(limit)]  # it ends itself, and the tool with it
        command = [COMMAND, "--tool", tool, "--error-exitcode", str(FOUND), "--log-file", str(folder / "report")]
        with (folder / "printed").open("w+") as output:
            start = time.monotonic()
            process = subprocess.Popen([*command, *options, *watched], stdout=output, stderr=subprocess.STDOUT)
            try:
                code = process.wait(limit + MARGIN)
            except subprocess.TimeoutExpired:
                process.kill()
                code = -signal.SIGKILL
            seconds = time.monotonic() - start
            output.seek(0)
            printed = output.read().strip().splitlines()
        inner.load()
        said = _report(folder / "report")
        if code == FOUND:
            return "found something", said if len(said) <= SHOWN else [*said[:SHOWN], said[-1]], seconds
        if inner.failures:
            return "found something", [f"results differ under {tool}: {inner.failures[0]}"], seconds
        if seconds >= limit:
            return f"no answer in {limit:.0f} s", [], seconds
        if code or not inner.tables:
            return f"did not run (exit code {code})", [*said[:SHOWN], *printed[-3:]], seconds
        return "clean", said[-1:], seconds


def _report(file: Path) -> list[str]:
    """Return the lines of a tool's report without the stacks of the host."""
    lines = file.read_text(errors="replace").splitlines() if file.exists() else []
    stripped = [line.removeprefix("=========").strip() for line in lines]
    return [line for line in stripped if line and not line.startswith(("COMPUTE-SANITIZER", "Host Frame", "in "))]
