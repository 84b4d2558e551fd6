"""`lumatile ingest`: turn a dataset into a recording."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from lumatile.errors import InvalidValueError
from lumatile_service.cli.output import Json, console, print_json, size, table

if TYPE_CHECKING:
    from lumatile.settings import TileFormat
    from lumatile_service.batch.run import Summary
    from lumatile_service.batch.tally import IngestTally

BAR_SECONDS = 0.2

LINE_SECONDS = 5.0
"""The time between two progress lines, where stderr is not a terminal."""


def ingest(
    *,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The dataset: a directory, or its URL.")],
    store: Annotated[str, typer.Option(metavar="URI", help="The store: a directory, or s3://BUCKET/PREFIX.")],
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="The dataset's format; by default detected from its files."),
    ] = None,
    reader: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="Your own reader, instead of a format.")
    ] = None,
    recording: Annotated[
        str | None, typer.Option(metavar="ID", help="The recording id; by default derived from SOURCE.")
    ] = None,
    tile_format: Annotated[str, typer.Option(metavar="NAME", help="linear, srgb8 or rgba32float.")] = "linear",
    engine: Annotated[str, typer.Option(metavar="NAME", help="local: this process; ray: Ray Data.")] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="The Ray to join: auto or HOST:PORT; by default a new one is started."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad value.")] = False,
    max_errors: Annotated[
        int | None, typer.Option(metavar="N", help="Stop when more than N values are bad; by default never.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Take out the values that SOURCE does not have any more.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the values that would be stored, and their size.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Turn a dataset into tiles. A second run adds what is missing, and puts right what has moved.

    A bad value becomes an error row. Exits with 1 if there are any, and with 2 if nothing was found.
    """
    from lumatile_service.batch.formats import nothing_found
    from lumatile_service.batch.job import TooManyErrorsError
    from lumatile_service.batch.plan import plan
    from lumatile_service.batch.run import ingest as run

    if reader is not None:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` finds modules

    if max_errors is not None and max_errors < 0:
        raise InvalidValueError(f"--max-errors must not be negative, and is {max_errors}")
    if dry_run:
        planned = plan(source, format=format_, reader=reader, recording_id=recording, tile_format=tile_format)
        if not planned.values:
            raise nothing_found(source, planned.format)
        if as_json:
            print_json(asdict(planned))
        else:
            out = console()
            out.print(f"recording {planned.recording_id}, format {planned.format}: {planned.values} values")
            rows = table("entity", "kind", "values", "bytes", right=("values", "bytes"))
            for group in planned.groups:
                rows.add_row(escape(group.entity_path), group.kind, str(group.values), size(group.bytes_in))
            out.print(rows)
            out.print(f"\nto read {size(planned.bytes_in)}, to store about {size(planned.bytes_out)}")
            _show_left_out(planned.left_out, planned.format)
        return
    try:
        summary = run(
            source,
            store,
            format=format_,
            reader=reader,
            recording_id=recording,
            engine=engine,
            ray_address=ray_address,
            max_errors=0 if strict else max_errors,
            prune=prune,
            watcher=_Lines() if as_json or not sys.stderr.isatty() else _Bar(),
            tile_format=cast("TileFormat", tile_format),  # checked with the other settings
        )
    except TooManyErrorsError as e:
        print(f"lumatile: {e}", file=sys.stderr)
        raise typer.Exit(1) from None
    if not summary.values:
        raise nothing_found(source, summary.format)
    if as_json:
        print_json(asdict(summary))
    else:
        _show(summary, store)
    raise typer.Exit(1 if summary.errors else 0)


def _show(summary: Summary, store: str) -> None:
    out = console()
    rate = summary.bytes_in / max(summary.seconds, 1e-9)
    out.print(
        f"recording {summary.recording_id}: {summary.logged} of {summary.values} values logged, "
        f"{summary.stored_before} were stored before, {summary.changed} had changed"
        + (f", {summary.moved} had moved" if summary.moved else "")
    )
    if summary.withdrawn:
        out.print(
            f"{summary.withdrawn} frames were taken out: at times where the source does not have these values now"
        )
    if summary.gone:
        out.print(f"{summary.gone} stored values are not in the source any more; they stay: --prune takes them out")
    out.print(
        f"{size(summary.bytes_in)} read, {size(summary.bytes_out)} written, in {summary.seconds:.1f} s "
        f"({size(rate)}/s read)"
    )
    _show_left_out(summary.left_out, summary.format)
    if summary.errors:
        out.print(f"\n{sum(summary.errors.values())} error rows in the recording:")
        rows = table("errors", "reason", "first example", right=("errors",))
        for reason, count in summary.errors.items():
            rows.add_row(str(count), escape(reason), escape(summary.examples[reason]))
        out.print(rows)
    out.print(f"\nnext: lumatile info {escape(store)} {summary.recording_id}")


def _show_left_out(left_out: Mapping[str, int], name: str) -> None:
    if left_out:
        found = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
        console().print(f"left out, since the format {escape(name)} does not read it: {escape(found)}")


class _Bar:
    """Shows a progress bar."""

    @contextmanager
    def watch(self, tally: IngestTally) -> Iterator[None]:
        """Show the progress of the block, which does the work."""
        columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.fields[what]}"))
        rest = TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7))
        with Progress(*columns, rest, console=console(stderr=True)) as progress:
            task = progress.add_task("", total=None, what="")

            def show(began: float) -> None:
                done = tally.fraction
                total = None if done is None else 1.0
                progress.update(task, total=total, completed=done or 0.0, what=_words(tally, began))

            with _again_and_again(show, BAR_SECONDS):
                yield
            progress.update(task, total=1.0, completed=1.0)


class _Lines:
    """Prints a progress line every few seconds."""

    @contextmanager
    def watch(self, tally: IngestTally) -> Iterator[None]:
        """Show the progress of the block, which does the work."""

        def show(began: float) -> None:
            done = tally.fraction
            rest = f", {(time.monotonic() - began) * (1 - done) / done:.0f} s to go" if done else ""
            print(f"lumatile: {_words(tally, began)}{rest}", file=sys.stderr, flush=True)

        with _again_and_again(show, LINE_SECONDS):
            yield


@contextmanager
def _again_and_again(show: Callable[[float], None], seconds: float) -> Iterator[None]:
    """Call `show` every so many seconds while the block runs, with the time at which the block began."""
    over = threading.Event()
    began = time.monotonic()

    def run() -> None:
        while not over.wait(seconds):
            show(began)

    thread = threading.Thread(target=run, name="lumatile-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _words(tally: IngestTally, began: float) -> str:
    seconds = max(time.monotonic() - began, 1e-9)
    done = tally.fraction
    values = f"{tally.seen} values" if tally.total is None else f"{tally.seen} of {tally.total} values"
    if tally.total is None and done is not None:
        values += f", about {done:.0%}"
    return (
        f"{values}: {size(tally.bytes_in)} read at {size(tally.bytes_in / seconds)}/s, {size(tally.bytes_out)} stored, "
        f"{tally.errors} bad"
    )
