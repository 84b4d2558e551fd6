"""The advertised address of a service: it says where the servers are, and takes no values itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pyarrow import flight

from lumatile.format.schema import LOG
from lumatile_service.ingest.flight_server import ClosedServer, clear_errors


class Front(ClosedServer):
    """A Flight server that knows others. It serves from construction to `shutdown`."""

    def __init__(
        self,
        location: str,
        *,
        addresses: Callable[[], Sequence[str]],
        status: Callable[[], dict[str, Any]],
        **options: Any,
    ) -> None:
        """`location`: grpc://HOST:PORT. `addresses`: of the servers that live, `status`: of all, as JSON; asked often.

        `options`: of FlightServerBase (TLS, middleware). Raises OSError where it cannot listen there.
        """
        super().__init__(location, **options)
        self._addresses = addresses
        self._status = status
        self.draining = False
        """Whether clients are told that the service is being shut down."""

    def get_flight_info(
        self,
        context: flight.ServerCallContext,  # noqa: ARG002
        descriptor: flight.FlightDescriptor,
    ) -> flight.FlightInfo:
        """Where values are taken."""
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
        """Nothing is taken here."""
        raise flight.FlightServerError("this address takes no values: ask it with GetFlightInfo for those that do")

    def list_actions(self, context: flight.ServerCallContext) -> list[tuple[str, str]]:  # noqa: ARG002
        """What `do_action` knows."""
        return [("status", "What the service's actors are and do now, as JSON.")]

    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> Iterator[flight.Result]:  # noqa: ARG002
        """See `list_actions`."""
        with clear_errors():
            if action.type != "status":
                raise flight.FlightServerError(f"the action must be 'status', not {action.type!r:.80}")
            yield flight.Result(json.dumps(self._status()).encode())
