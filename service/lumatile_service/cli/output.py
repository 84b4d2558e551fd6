"""Options and output that the commands share: JSON for programs, tables for people."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
StorePath = Annotated[str, typer.Argument(metavar="STORE", help="The store: a directory, or s3://BUCKET/PREFIX.")]


def print_json(report: Any) -> None:
    """Print one JSON value on stdout."""
    json.dump(report, sys.stdout, indent=2, allow_nan=False)
    print()


def console(*, stderr: bool = False) -> Console:
    """Return a console for tables and text; it prints plain, unwrapped text where the stream is not a terminal."""
    made = Console(highlight=False, stderr=stderr)
    if not made.is_terminal:
        made = Console(highlight=False, stderr=stderr, width=10_000)
    return made


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table; the columns in `right` are aligned right, for numbers."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def size(nbytes: float) -> str:
    """Return a number of bytes as text: 999 B, 1.2 kB, 345 MB (powers of 1000)."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    while nbytes >= 999.5 and len(units) > 1:
        nbytes /= 1000
        units.pop(0)
    return f"{nbytes:.1f} {units[0]}" if nbytes < 99.95 and units[0] != "B" else f"{nbytes:.0f} {units[0]}"


def instant(kind: str, value: int) -> str:
    """Return an instant as text: for a "sequence" its number, for a "time" (ns since the epoch) the UTC time."""
    if kind == "sequence":
        return str(value)
    whole, nanoseconds = divmod(value, 10**9)
    try:
        second = f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return str(np.datetime64(value, "ns"))
    digits = f"{nanoseconds:09d}"
    return f"{second}.{digits[:3] if digits.endswith('000000') else digits}"
