"""Run the whole suite: `python -m tests.suite`, with any arguments of pytest.

Most tests run in parallel, in a process for each core. Then those marked `alone` run one after another, since a busy
machine would falsify what they measure, or make Ray and many processes miss their time limits. Tests that have failed
are then run once more, with nothing next to them: those that pass now count as passed, and the last line names them.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[1]
SOME_FAILED, NO_TESTS = 1, 5
"""pytest's exit codes when tests have failed, and when none was selected."""

AGAIN_AT_MOST = 30
"""When more tests than this have failed, it is not by chance: they are not run again."""


def main(arguments):
    """Run all parts, print one line with the counts of all; return the exit code."""
    chosen = any(names_tests(argument) for argument in arguments)
    marked = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.alone" in path.read_text("utf-8")]
    codes, outcomes = [], {}
    for part in (
        ["-n", str(os.cpu_count() or 1), "-m", "not alone", *arguments],
        ["-m", "alone", *([] if chosen else map(str, marked)), *arguments],
    ):
        code, found = run(part)
        codes.append(code)
        outcomes |= found
    failed, again = with_outcome(outcomes, "failed"), []
    if 0 < len(failed) <= AGAIN_AT_MOST:
        code, found = run([*(argument for argument in arguments if not names_tests(argument)), *failed])
        outcomes |= found
        again = [test for test in failed if outcomes[test] == "passed"]
        if code == 0 and len(again) == len(failed):
            codes = [0 if code == SOME_FAILED else code for code in codes]
    passed, failed, skipped = (with_outcome(outcomes, name) for name in ("passed", "failed", "skipped"))
    only = f" ({len(again)} of them only when run again alone: {', '.join(again)})" if again else ""
    sys.stdout.write(f"suite: {len(passed)} passed{only}, {len(failed)} failed, {len(skipped)} skipped\n")
    return next((code for code in codes if code not in (0, NO_TESTS)), 0)


def names_tests(argument):
    """Return whether an argument of pytest is a file, a folder or a test."""
    return (ROOT / argument.partition("::")[0]).exists()


def with_outcome(outcomes, wanted):
    """Return the tests with an outcome, in the order in which they ran."""
    return [test for test, outcome in outcomes.items() if outcome == wanted]


def run(arguments):
    """Run pytest; return its exit code and the outcome of each test."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.xml")
        # reports of the family xunit1 have the files of the tests
        command = [sys.executable, "-m", "pytest", f"--junitxml={report}", "-o", "junit_family=xunit1", *arguments]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        outcomes = {}
        for case in ET.parse(report).iter("testcase") if report.exists() else ():
            test, parts = f"{case.get('file')}::{case.get('name')}", {part.tag for part in case}
            failed = parts & {"failure", "error"} or outcomes.get(test) == "failed"
            outcomes[test] = "failed" if failed else "skipped" if "skipped" in parts else "passed"
    return code, outcomes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
