"""Run the whole suite: `python -m tests.suite`, with any arguments of pytest.

Most tests run in parallel, in a process for each core. Then those marked `alone` run one after another, since a busy
machine would falsify what they measure, or make Ray and many processes miss their time limits.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[1]
NO_TESTS = 5
"""pytest's exit code when no test was selected."""


def main(arguments):
    """Run both parts, print one line with the counts of both; return the exit code."""
    chosen = any((ROOT / argument.partition("::")[0]).exists() for argument in arguments)
    marked = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.alone" in path.read_text("utf-8")]
    processes = str(os.cpu_count() or 1)
    parts = {
        "next to each other": ["-n", processes, "-m", "not alone"],
        "alone": ["-m", "alone", *([] if chosen else map(str, marked))],
    }
    codes, counts = [], dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.xml")
        for part in parts.values():
            command = [sys.executable, "-m", "pytest", *part, f"--junitxml={report}", *arguments]
            codes.append(subprocess.run(command, cwd=ROOT, check=False).returncode)
            if report.exists():
                for found in ET.parse(report).iter("testsuite"):
                    counts = {name: number + int(found.get(name)) for name, number in counts.items()}
                report.unlink()
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    sys.stdout.write(f"suite: {passed} passed, {failed} failed, {counts['skipped']} skipped\n")
    return next((code for code in codes if code not in (0, NO_TESTS)), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
