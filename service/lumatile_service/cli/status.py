"""`lumatile status`: show the actors of a service."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import pyarrow as pa
import typer
from pyarrow import flight
from rich.markup import escape

from lumatile.errors import InvalidValueError
from lumatile.wire.credentials import call_options, connect
from lumatile_service.cli.output import Json, console, print_json, size, table
from lumatile_service.endpoint import Endpoint

ANSWER_SECONDS = 5.0


def status(
    *,
    url: Annotated[
        str, typer.Option(metavar="grpc://HOST:PORT", help="The service's address.")
    ] = "grpc://127.0.0.1:9876",
    as_json: Json = False,
) -> None:
    """Show the actors of a service, with their queues and rates.

    Exits with 1 if the service, or one of its actors, does not answer.
    """
    try:
        report = ask(url)
    except (flight.FlightUnauthenticatedError, flight.FlightUnauthorizedError) as e:
        print(f"lumatile: the service at {url} refused: {_reason(e)}; set LUMATILE_TOKEN", file=sys.stderr)
        raise typer.Exit(1) from None
    except (pa.ArrowException, OSError) as e:
        print(f"lumatile: the service at {url} does not answer: {_reason(e)}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print_json(report)
    else:
        _show(report)
    raise typer.Exit(1 if any("error" in actor for actor in report["actors"]) else 0)


def ask(url: str) -> dict[str, Any]:
    """Return the status of a service. Raises ArrowException, OSError where it does not answer."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("grpc", "grpc+tls"):
        raise InvalidValueError(f"a service's address must be grpc://HOST:PORT or grpc+tls://HOST:PORT, not {url!r}")
    Endpoint.parse(rest.rstrip("/"))
    client = connect(url.rstrip("/"))
    try:
        (answer,) = client.do_action(flight.Action("status", b""), call_options(ANSWER_SECONDS))
        report: dict[str, Any] = json.loads(answer.body.to_pybytes())
        return report
    finally:
        client.close()


def _reason(error: Exception) -> str:
    """Return the message of the service, without what gRPC adds to it."""
    return str(error).partition(". Detail:")[0].partition(" gRPC client debug context")[0]


def _show(report: dict[str, Any]) -> None:
    out = console()
    out.print(f"store {escape(report['store'])}\n")
    numbers = ("recordings", "pending", "queued", "accepted", "acknowledged", "a second")
    rows = table("actor", "address", "backend", "pid", *numbers, right=("pid", *numbers))
    for actor in report["actors"]:
        if "error" in actor:
            rows.add_row(actor["name"], f"[red]{escape(actor['error'])}[/]")
            continue
        accepted = actor["accepted"]
        rows.add_row(
            actor["name"],
            actor["address"],
            actor["backend"],
            str(actor["pid"]),
            str(actor["recordings"]),
            str(actor["pending_values"]),
            size(actor["queued_bytes"]),
            f"{accepted['values']}, {size(accepted['bytes'])}",
            str(actor["acknowledged"]["values"]),
            f"{accepted['values_per_second']:.1f}, {size(accepted['bytes_per_second'])}",
        )
    out.print(rows)
