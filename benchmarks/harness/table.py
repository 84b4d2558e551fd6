"""The results of a benchmark: tables, and the bars that the project has set itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Cell = str | float | int | None


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A promise about a figure."""

    promise: str
    value: float
    limit: float
    at_least: bool = False
    """Whether the value must not be below the limit; else it must not be above it."""
    no_room: str | None = None
    """The reason why this machine leaves no room for the promise."""

    @property
    def verdict(self) -> str:
        """The verdict: met, not met, or no room."""
        if (self.value >= self.limit) if self.at_least else (self.value <= self.limit):
            return "met"
        return f"no room: {self.no_room}" if self.no_room else "not met"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    bars: Sequence[Bar] = ()
    seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """The seconds of each contender in each round."""

    def markdown(self) -> str:
        """Return the table, its bars and its notes as Markdown."""
        lines = [f"## {self.title}", "", *_grid(self.columns, self.rows)]
        if self.bars:
            bars = [
                (bar.promise, bar.value, ("at least " if bar.at_least else "at most ") + _text(bar.limit), bar.verdict)
                for bar in self.bars
            ]
            lines += ["", *_grid(("bar", "measured", "asked", "verdict"), bars)]
        lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines).rstrip() + "\n"

    def as_json(self) -> dict[str, Any]:
        """Return the same as JSON, with the seconds of each round."""
        return {
            "title": self.title,
            "rows": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "bars": [
                {
                    "promise": b.promise,
                    "measured": b.value,
                    "limit": b.limit,
                    "at_least": b.at_least,
                    "verdict": b.verdict,
                }
                for b in self.bars
            ],
            "notes": list(self.notes),
            "seconds": {name: list(values) for name, values in self.seconds.items()},
        }


def _grid(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    texts = [[_text(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(columns))]
    numeric = [all(not isinstance(row[i], str) for row in rows) and bool(rows) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(t.rjust(w) if n else t.ljust(w) for t, w, n in zip(row, widths, numeric, strict=True)) + " |"
        for row in texts
    ]
    rule = "|" + "|".join("-" * (w + 1) + (":" if n else "-") for w, n in zip(widths, numeric, strict=True)) + "|"
    return [lines[0], rule, *lines[1:]]


def _text(cell: Cell) -> str:
    """Format a number with three significant digits, or as a whole number."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        if cell == 0 or abs(cell) >= 100:
            return f"{cell:,.0f}"
        return f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}" if abs(cell) >= 0.1 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else cell
