"""The advertised address of a service: it names the servers that take values, and takes none itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Unpack

from pyarrow import flight

from lumatile.format.schema import LOG
from lumatile_service.ingest.access import ServerOptions
from lumatile_service.ingest.flight_server import ClosedServer, clear_errors


class Front(ClosedServer):
    """A Flight server that names other servers. It serves from construction to `shutdown`."""

    def __init__(
        self,
        location: str,
        *,
        addresses: Callable[[], Sequence[str]],
        status: Callable[[], dict[str, Any]],
        **options: Unpack[ServerOptions],
    ) -> None:
        """Listen at `location`, grpc://HOST:PORT or grpc+tls://HOST:PORT.

        `addresses`: returns the addresses of the servers that are alive. `status`: returns the status of the service as
        JSON values. Both are called often. Raises OSError where it cannot listen there.
        """
        super().__init__(location, **options)
        self._addresses = addresses
        self._status = status
        self.draining = False
        """True: clients are told that the service is being shut down."""

    def get_flight_info(
        self,
        context: flight.ServerCallContext,  # noqa: ARG002
        descriptor: flight.FlightDescriptor,
    ) -> flight.FlightInfo:
        """Return the servers that take values."""
        with clear_errors():
            if self.draining:
                raise flight.FlightUnavailableError("the service is being shut down")
            addresses = self._addresses()
            if not addresses:
                raise flight.FlightUnavailableError("none of the service's ingest actors answers; try again later")
            return flight.FlightInfo(
                LOG, descriptor, [flight.FlightEndpoint(b"", [address]) for address in addresses], -1, -1
            )

    def do_exchange(
        self,
        context: flight.ServerCallContext,  # noqa: ARG002
        descriptor: flight.FlightDescriptor,  # noqa: ARG002
        reader: flight.MetadataRecordBatchReader,  # noqa: ARG002
        writer: flight.MetadataRecordBatchWriter,  # noqa: ARG002
    ) -> None:
        """Refuse the stream."""
        raise flight.FlightServerError("this address takes no values: ask it with GetFlightInfo for those that do")

    def list_actions(self, context: flight.ServerCallContext) -> list[tuple[str, str]]:  # noqa: ARG002
        """Return the names and descriptions of the actions."""
        return [("status", "The status of the service and its actors now, as JSON.")]

    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> Iterator[flight.Result]:  # noqa: ARG002
        """Do an action that `list_actions` names."""
        with clear_errors():
            if action.type != "status":
                raise flight.FlightServerError(f"the action must be 'status', not {action.type!r:.80}")
            yield flight.Result(json.dumps(self._status()).encode())
