"""The commands; an error becomes one line on stderr and an exit code."""

from __future__ import annotations

import sys
import warnings

import typer

from lumatile.errors import CorruptStoreError, FlushError, LumatileError
from lumatile_service.cli.demo import demo
from lumatile_service.cli.doctor import doctor
from lumatile_service.cli.export import export
from lumatile_service.cli.info import info
from lumatile_service.cli.ingest import ingest
from lumatile_service.cli.ls import ls
from lumatile_service.cli.render import render
from lumatile_service.cli.serve import serve
from lumatile_service.cli.status import status
from lumatile_service.cli.sync import sync
from lumatile_service.cli.verify import verify

app = typer.Typer(
    name="lumatile",
    help="Log images, depth, segmentation and points as render-ready tiles, and look at the stored frames.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
for command in (demo, ls, info, verify, render, ingest, export, serve, status, doctor, sync):
    app.command()(command)


def run() -> None:
    """Run the command that sys.argv names, and exit."""
    warnings.showwarning = lambda message, *_: print(f"lumatile: warning: {message}", file=sys.stderr)
    try:
        app()
    except (LumatileError, OSError) as e:
        print(f"lumatile: {e}", file=sys.stderr)
        sys.exit(1 if isinstance(e, CorruptStoreError | FlushError) else 2)
