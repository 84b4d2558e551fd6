"""The findings of a section of the check; saved continuously, so that they survive a process that dies."""

from __future__ import annotations

import pickle
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.table import Table


@dataclass(kw_only=True)
class Findings:
    """Tables, notes and failures."""

    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """The parts that could not run on this machine, with reasons; they are not errors."""
    failures: list[str] = field(default_factory=list)
    """The differences from the specification, and the errors."""
    file: Path | None = None
    """The file in which they are saved; None: they are not saved."""
    end: float = float("inf")
    """The time at which the section will be stopped, by `time.monotonic`."""

    @property
    def left(self) -> float:
        """The seconds until then."""
        return self.end - time.monotonic()

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Turn an exception of the block into a failure, and continue the section."""
        try:
            yield
        except Exception as e:  # noqa: BLE001 - whatever it is, the others are measured
            traceback.print_exc()
            self.failures.append(f"{what}: {last_line(e)}")
        self.save()

    def add(self, table: Table) -> None:
        """Add a table, or replace the one with the same title."""
        self.tables = [*(other for other in self.tables if other.title != table.title), table]
        self.save()

    def note(self, text: str) -> None:
        """Add a note, unless it exists."""
        if text not in self.notes:
            self.notes.append(text)
            say(f"    note: {text}")
            self.save()

    def save(self) -> None:
        """Write the findings to their file, completely or not at all."""
        if self.file is None:
            return
        new = self.file.with_suffix(".new")
        new.write_bytes(pickle.dumps((self.tables, self.notes, self.failures)))
        new.replace(self.file)

    def load(self) -> None:
        """Add the findings that another process has saved in the file, if it has."""
        if self.file is None or not self.file.exists():
            return
        tables, notes, failures = pickle.loads(self.file.read_bytes())
        self.tables += tables
        self.notes += notes
        self.failures += failures


def last_line(error: BaseException) -> str:
    """Return the last line of the traceback of an error, shortened to a readable length."""
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines() or [type(error).__name__]
    text = lines[-1] if len(lines[-1]) > 20 or len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
    return text if len(text) <= 600 else f"{text[:600]} ..."


def say(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr, flush=True)
