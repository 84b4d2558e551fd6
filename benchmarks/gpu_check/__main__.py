"""`python -m benchmarks.gpu_check [--quick] [--only NAME ...] [--out DIR] [--minutes N]`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu_check.findings import Findings, last_line, say
from benchmarks.gpu_check.sections import SECTIONS, Section
from lumatile_kernels.backend import BackendUnavailableError

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
MINUTES = 9.5
"""The most minutes of all sections together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run sections, each in a separate process; write the findings after each. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds")
    parser.add_argument("--only", nargs="+", choices=[*SECTIONS], metavar="NAME", help=", ".join(SECTIONS))
    parser.add_argument("--out", type=Path, help="where gpu.md and gpu.json go; by default benchmarks/results")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="all sections together, at most")
    parser.add_argument("--child", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=3600.0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child is not None:
        name, file = options.child
        return run_here(SECTIONS[name], Path(file), quick=options.quick, seconds=options.seconds)

    try:
        machine = _machine()
    except Exception as e:  # noqa: BLE001 - whatever keeps the device from answering is the reason
        reason = str(e).splitlines()[0] if isinstance(e, BackendUnavailableError) else last_line(e)
        say(f"gpu-check: no CUDA device answers, nothing was checked or measured: {reason}")
        return 2
    print(_heading(machine), flush=True)
    out: Path = options.out or RESULTS
    names: list[str] = options.only or [*SECTIONS]
    end = time.monotonic() + 60 * options.minutes
    all_found: list[Findings] = []
    for number, name in enumerate(names, 1):
        say(f"[{number}/{len(names)}] {name}")
        left = end - time.monotonic()
        all_found.append(_run_apart(SECTIONS[name], left, quick=options.quick))
        _write(out, machine, all_found, names[number:])
    failures = [failure for findings in all_found for failure in findings.failures]
    for failure in failures:
        say(f"FAILED {failure}")
    say(f"gpu-check: {len(failures)} failures; results in {out / 'gpu.md'} and {out / 'gpu.json'}")
    return 1 if failures else 0


def run_here(section: Section, file: Path, *, quick: bool, seconds: float) -> int:
    """Run a section in this process, and save its findings; the process ends after the given seconds."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
    findings = Findings(file=file, end=time.monotonic() + seconds)
    with findings.attempt(section.name):
        section.measure(findings, quick=quick)
    findings.save()
    return 1 if findings.failures else 0


def _run_apart(section: Section, seconds_left: float, *, quick: bool) -> Findings:
    """Run a section in another process, and collect its findings, however the process has ended."""
    limit = min(section.seconds, seconds_left)
    with tempfile.TemporaryDirectory() as folder:
        findings = Findings(file=Path(folder) / "findings")
        if limit < 5:
            return Findings(failures=[f"{section.name}: not run, the time was used up"])
        command = [sys.executable, "-m", "benchmarks.gpu_check", "--child", section.name, str(findings.file)]
        command += ["--seconds", str(limit)]
        start = time.monotonic()
        process = subprocess.Popen([*command, *(["--quick"] if quick else [])], start_new_session=True)
        ended = ""
        try:
            code = process.wait(limit + 15)
            if code == -signal.SIGALRM:
                ended = f"stopped after {limit:.0f} s"
            elif code not in {0, 1}:
                ended = f"its process ended with exit code {code}"
        except BaseException as e:
            _end(process)
            if not isinstance(e, subprocess.TimeoutExpired):
                raise
            ended = f"killed after {limit + 15:.0f} s"
        findings.load()
        if ended:
            findings.failures.append(f"{section.name}: {ended}")
        say(f"    {time.monotonic() - start:.0f} s")
        for table in findings.tables:
            print(table.markdown(), flush=True)
        findings.file = None
        return findings


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a section and all processes that it has started."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _machine() -> dict[str, str]:
    """Return a description of the machine. Raises BackendUnavailableError if no device answers."""
    from benchmarks.gpu_check.gpu import describe
    from lumatile_kernels.cuda.cuda_device import CudaDevice

    device = CudaDevice()
    try:
        return describe(device)
    except Exception as e:  # noqa: BLE001 - it answers, and that is what counts
        return {"device": device.name, "not known": last_line(e)}


def _write(out: Path, machine: dict[str, str], all_found: Sequence[Findings], missing: Sequence[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    tables = [table for findings in all_found for table in findings.tables]
    notes = [note for findings in all_found for note in findings.notes]
    failures = [failure for findings in all_found for failure in findings.failures]
    notes += [f"{name}: not run yet" for name in missing]
    lines = [_heading(machine), *(table.markdown() for table in tables)]
    for title, texts in (("Notes", notes), ("Failures", failures)):
        if texts:
            lines.append("\n".join([f"## {title}", "", *(f"- {' '.join(text.split())}" for text in texts), ""]))
    (out / "gpu.md").write_text("\n".join(lines))
    result = {
        "machine": machine,
        "tables": [table.as_json() for table in tables],
        "notes": notes,
        "failures": failures,
    }
    (out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")


def _heading(machine: dict[str, str]) -> str:
    return "\n".join(["# GPU check", "", *(f"- {name}: {value}" for name, value in machine.items()), ""])


if __name__ == "__main__":
    sys.exit(main())
