"""`lumatile sync`: send the values that wait in spools on this machine to their service."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lumatile.delivery.adoption import Pushed, push
from lumatile.spool.directory import SpoolBusyError, SpoolError, spools
from lumatile.spool.options import spool_options
from lumatile_service.cli.output import Json, console, print_json, size

Directory = Annotated[
    Path | None,
    typer.Argument(metavar="[DIR]", help="A spool, or a directory of spools; by default the directory of this user."),
]
Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="Send to this service, grpc://HOST:PORT.")]


def sync(directory: Directory = None, url: Url = None, *, as_json: Json = False) -> None:
    """Send the values that wait in spools to their service.

    Exits with 1 if values are left or were damaged.
    """
    root = directory or spool_options("")[1].root
    if root is None:
        raise SpoolError("spools are turned off here ($LUMATILE_SPOOL): name a directory")
    if not root.is_dir():
        if directory is not None:
            raise SpoolError(f"{root} is not a directory")
        found = []
    elif (root / "spool.json").exists():
        found = [root]
    else:
        found = [*spools(root), *spools(root / "workers")]
    pushed, busy = [], []
    for path in found:
        try:
            pushed.append(push(path, url))
        except SpoolBusyError:
            if path == root:
                raise
            busy.append(path)
    wrong = [each for each in pushed if each.left or each.damaged or each.refused]
    if as_json:
        report = [asdict(each) | {"path": str(each.path)} for each in pushed]
        print_json({"ok": not wrong, "spools": report, "busy": [str(path) for path in busy]})
    else:
        _show(pushed, busy)
    raise typer.Exit(1 if wrong else 0)


def _show(pushed: list[Pushed], busy: list[Path]) -> None:
    out = console()
    for each in pushed:
        out.print(f"{escape(str(each.path))}: {each.values} values sent to {escape(each.url)}", soft_wrap=True)
        if each.damaged:
            out.print(f"  [red]{each.damaged} values are damaged[/]; their segments were set aside", soft_wrap=True)
        if each.refused:
            out.print(f"  [red]{each.refused} values were refused[/] by the service", soft_wrap=True)
        if each.left:
            out.print(f"  [red]{size(each.left)} are left[/]: {escape(each.why)}", soft_wrap=True)
    for path in busy:
        out.print(f"{escape(str(path))}: its process is running and sends the values itself", soft_wrap=True)
    if not pushed and not busy:
        out.print("no spools here: no values wait")
