"""The sections, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from benchmarks.gpu_check.findings import Findings


@dataclass(frozen=True, kw_only=True)
class Section:
    """A module of this package with a function `measure`; its imports happen when it runs."""

    name: str
    seconds: float
    """The most seconds that it may take."""

    def measure(self, findings: Findings, *, quick: bool) -> None:
        """Run it and add its findings."""
        function: Callable[..., None] = import_module(f"benchmarks.gpu_check.{self.name}").measure
        function(findings, quick=quick)


SECTIONS = {
    section.name: section
    for section in (
        Section(name="correctness", seconds=200),
        Section(name="kernels", seconds=100),
        Section(name="chains", seconds=150),
        Section(name="to_host", seconds=80),
        Section(name="backends", seconds=80),
        Section(name="jpeg", seconds=100),
        Section(name="sanitizer", seconds=270),
    )
}
