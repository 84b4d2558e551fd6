"""`lumatile serve`: run the service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lumatile_service.endpoint import Endpoint, port_range


def serve(
    *,
    store: Annotated[str, typer.Option(metavar="URI", help="The store: a directory, or s3://BUCKET/PREFIX.")],
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="The address that clients are given.")
    ] = "127.0.0.1:9876",
    data_ports: Annotated[
        str | None, typer.Option(metavar="A-B", help="Ports of the actors, one for each; by default any free ones.")
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(
            metavar="HOST", help="The host at which clients reach the actors, if it is not the one where they listen."
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The address of /metrics and /healthz, which need no token; by default there is none.",
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The number of ingest actors; by default one for each GPU, without GPUs one for two cores.",
        ),
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="The file of tokens that may write and read; without it, only loopback is allowed."
        ),
    ] = None,
    tls_cert: Annotated[str | None, typer.Option(metavar="FILE", help="PEM certificate chain, for TLS.")] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="PEM private key of the certificate.")] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="The Ray to join: auto or HOST:PORT; by default a new one is started."),
    ] = None,
) -> None:
    """Receive values over the network and store them, in ingest actors on Ray.

    Prints one line with its addresses once it takes values. On SIGTERM or SIGINT it makes all received values durable,
    then ends.
    """
    from lumatile_service.cluster.serve import ServeOptions
    from lumatile_service.cluster.serve import serve as run
    from lumatile_service.ingest.access import Access

    options = ServeOptions(
        store=store,
        listen=Endpoint.parse(listen),
        data_ports=port_range(data_ports),
        advertise=advertise,
        actors=actors,
        ray_address=ray_address,
        http=None if http is None else Endpoint.parse(http),
        access=Access(token_file=_absolute(token_file), tls_cert=_absolute(tls_cert), tls_key=_absolute(tls_key)),
    )
    try:
        run(options)
    except ModuleNotFoundError as e:
        if e.name not in {"ray", "prometheus_client"}:
            raise
        print(f"lumatile: the service needs {e.name}: pip install 'lumatile[service]'", file=sys.stderr)
        raise typer.Exit(2) from None


def _absolute(path: str | None) -> str | None:
    """Return an absolute path: actors run in other directories."""
    return None if path is None else str(Path(path).absolute())
