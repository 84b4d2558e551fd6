"""What a section of the check has found so far; saved as it goes, so that a process that dies leaves it behind."""

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
    """Tables, and what went wrong."""

    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be done here, and why; no errors."""
    failures: list[str] = field(default_factory=list)
    """What differs from the specification, or has raised."""
    file: Path | None = None
    """Where it is saved; None: nowhere."""
    end: float = float("inf")
    """When the section will be stopped, by `time.monotonic`."""

    @property
    def left(self) -> float:
        """Seconds until then."""
        return self.end - time.monotonic()

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """An exception in here becomes a failure, and the section goes on."""
        try:
            yield
        except Exception as e:  # noqa: BLE001 - whatever it is, the others are measured
            traceback.print_exc()
            self.failures.append(f"{what}: {last_line(e)}")
        self.save()

    def add(self, table: Table) -> None:
        """One more table, in place of what there is under its title."""
        self.tables = [*(other for other in self.tables if other.title != table.title), table]
        self.save()

    def note(self, text: str) -> None:
        """One more note, unless it is there."""
        if text not in self.notes:
            self.notes.append(text)
            say(f"    note: {text}")
            self.save()

    def save(self) -> None:
        """Write all of it to its file, whole or not at all."""
        if self.file is None:
            return
        new = self.file.with_suffix(".new")
        new.write_bytes(pickle.dumps((self.tables, self.notes, self.failures)))
        new.replace(self.file)

    def load(self) -> None:
        """Add what another process has saved in the file; nothing where it has not."""
        if self.file is None or not self.file.exists():
            return
        tables, notes, failures = pickle.loads(self.file.read_bytes())
        self.tables += tables
        self.notes += notes
        self.failures += failures


def last_line(error: BaseException) -> str:
    """The last line of its traceback, of a readable length."""
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines() or [type(error).__name__]
    text = lines[-1] if len(lines[-1]) > 20 or len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
    return text if len(text) <= 600 else f"{text[:600]} ..."


def say(text: str) -> None:
    """A line on standard error, for who watches."""
    print(text, file=sys.stderr, flush=True)
