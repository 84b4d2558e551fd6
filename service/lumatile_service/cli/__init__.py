"""The command line `lumatile`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Exit codes: 0 success, 1 something wrong was found, 2 wrong usage."""
    try:
        from lumatile_service.cli.app import run
    except ModuleNotFoundError as e:
        if e.name not in {"typer", "rich"}:
            raise
        print(f"lumatile: the command line needs {e.name}: pip install 'lumatile[local]'", file=sys.stderr)
        sys.exit(2)
    run()
