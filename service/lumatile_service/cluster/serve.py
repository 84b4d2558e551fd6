"""The service: a front at the advertised address, ingest actors behind it, until a signal says stop."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING

import pyarrow as pa

from lumatile.errors import InvalidValueError, SinkError
from lumatile.storage.open_storage import open_storage
from lumatile_service.cluster.ray_session import ray_session
from lumatile_service.endpoint import LOOPBACK, Endpoint
from lumatile_service.ingest.access import Access
from lumatile_service.ingest.front import Front
from lumatile_service.ingest.ingest_node import make_store

if TYPE_CHECKING:
    from lumatile_service.cluster.ray_actors import IngestActors
    from lumatile_service.metrics.http_server import HttpServer

DRAIN_SECONDS = 60.0
"""Longest time for making durable what was received before."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What `lumatile serve` is told. Raises InvalidValueError, StoreError where a package for the store is missing."""

    store: str
    """Path or URL; every node must see a directory there."""
    listen: Endpoint
    data_ports: Sequence[int] = (0,)
    """Ports of actors; (0,): any."""
    advertise: str | None = None
    """Host where clients find the actors, if not where they listen."""
    actors: int | None = None
    ray_address: str | None = None
    """Of a Ray to join; None: start one."""
    http: Endpoint | None = None
    """Where metrics are, for everybody who reaches it; None: nowhere."""

    access: Access = Access()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        """Check every rule once, here."""
        self.access.check_listening(self.listen)
        if self.actors is not None and self.actors < 1:
            raise InvalidValueError(f"there must be at least 1 actor, not {self.actors}")
        open_storage(self.store)

    @property
    def data_host(self) -> str:
        """Where actors listen: on loopback if the service does, else at all addresses of their machines."""
        return LOOPBACK if self.listen.is_loopback else "0.0.0.0"  # noqa: S104 - with a token

    @property
    def location(self) -> str:
        """The store's; of a directory its absolute path: actors run elsewhere."""
        return str(open_storage(self.store))


def serve(options: ServeOptions) -> None:
    """Serve until SIGTERM or SIGINT, then drain; print one line once values are taken.

    Raises SinkError where it cannot start, FlushError where draining fails.
    """
    out = sys.stdout
    with contextlib.ExitStack() as stack:
        http = None if options.http is None else stack.enter_context(_http(options.http))
        why = options.listen.why_taken
        if why is not None:
            raise _cannot_listen(options.listen, why)
        if options.ray_address is None:
            make_store(options.location)  # before actors are started: they would only say the same
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))  # where Ray says what actors say
        try:
            actors, front = _start(options, stack)
        except (SystemExit, KeyboardInterrupt):
            return  # told to stop while it started: what was started ends with the stack
        wait_for_stop = _stop_signal()
        if http is not None:
            stack.enter_context(http.watching(actors.statuses))
        print(_line(options, actors, front, http), file=out)
        out.flush()
        wait_for_stop()
        front.draining = True
        try:
            actors.drain(DRAIN_SECONDS)
        finally:
            front.shutdown()


def _http(endpoint: Endpoint) -> HttpServer:
    """A server that says, until it knows actors, that there are none. Raises SinkError."""
    from lumatile_service.metrics.http_server import HttpServer

    try:
        return HttpServer(endpoint)
    except OSError as e:
        raise _cannot_listen(endpoint, e.strerror or str(e)) from e


def _line(options: ServeOptions, actors: IngestActors, front: Front, http: HttpServer | None) -> str:
    """What is printed: all addresses."""
    listening = options.access.url(Endpoint(host=options.listen.host, port=front.port))
    metrics = "" if http is None else f", and metrics at {http.url}"
    return f"lumatile takes values at {listening}, with actors at {', '.join(actors.addresses())}{metrics}"


def _start(options: ServeOptions, stack: contextlib.ExitStack) -> tuple[IngestActors, Front]:
    """Ray, which `stack` ends, and in it the actors, and the front."""
    stack.enter_context(ray_session(options.ray_address))
    from lumatile_service.cluster.ray_actors import IngestActors

    actors = IngestActors(
        options.location,
        actors=options.actors,
        host=options.data_host,
        advertise=options.advertise,
        ports=options.data_ports,
        access=options.access,
    )
    try:
        front = Front(
            options.access.url(options.listen),
            addresses=actors.addresses,
            status=lambda: {"store": options.location, "actors": actors.statuses()},
            **options.access.server_options(),
        )
    except (pa.ArrowException, OSError) as e:
        raise _cannot_listen(options.listen, str(e)) from e
    return actors, front


def _stop_signal() -> Callable[[], object]:
    """What waits for SIGTERM or SIGINT; another one ends the process at once. Ray has set handlers of its own."""
    stop: SimpleQueue[int] = SimpleQueue()  # not an Event: a handler may interrupt the thread that holds its lock
    told = False

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal told
        if told:
            sys.exit(1)
        told = True
        stop.put(number)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop.get


def _cannot_listen(listen: Endpoint, why: str) -> SinkError:
    return SinkError(f"cannot listen at {listen}: {why}")
