"""The service: a front at the advertised address, and ingest actors that it names, until a signal stops them."""

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
"""The longest time for making received values durable at the end."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The options of `lumatile serve`.

    Raises InvalidValueError, StoreError where a package for the store is missing.
    """

    store: str
    """A path or URL; every node must have access to the directory."""
    listen: Endpoint
    """The address that clients are given."""
    data_ports: Sequence[int] = (0,)
    """The ports of the actors; (0,): any free ones."""
    advertise: str | None = None
    """The host at which clients reach the actors, if it is not the one where they listen."""
    actors: int | None = None
    """The number of actors; None: as many as the cluster has room for."""
    ray_address: str | None = None
    """The address of a Ray to join; None: start one."""
    http: Endpoint | None = None
    """The address of the metrics, which need no token; None: there are none."""

    access: Access = Access()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        """Check every rule once, here."""
        self.access.check_listening(self.listen)
        if self.actors is not None and self.actors < 1:
            raise InvalidValueError(f"there must be at least 1 actor, not {self.actors}")
        open_storage(self.store)

    @property
    def data_host(self) -> str:
        """The host at which actors listen: loopback if the service does, else all addresses of their machines."""
        return LOOPBACK if self.listen.is_loopback else "0.0.0.0"  # noqa: S104 - with a token

    @property
    def location(self) -> str:
        """The location of the store; for a directory its absolute path: actors run in other directories."""
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
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))  # Ray prints the output of the actors there
        try:
            actors, front = _start(options, stack)
        except (SystemExit, KeyboardInterrupt):
            return  # stopped during the start: the stack ends what was started
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
    """Return a server that reports no actors until it watches some. Raises SinkError."""
    from lumatile_service.metrics.http_server import HttpServer

    try:
        return HttpServer(endpoint)
    except OSError as e:
        raise _cannot_listen(endpoint, e.strerror or str(e)) from e


def _line(options: ServeOptions, actors: IngestActors, front: Front, http: HttpServer | None) -> str:
    """Return the line that is printed: all addresses."""
    listening = options.access.url(Endpoint(host=options.listen.host, port=front.port))
    metrics = "" if http is None else f", and metrics at {http.url}"
    return f"lumatile takes values at {listening}, with actors at {', '.join(actors.addresses())}{metrics}"


def _start(options: ServeOptions, stack: contextlib.ExitStack) -> tuple[IngestActors, Front]:
    """Start Ray, which `stack` ends, in it the actors, and the front."""
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
    """Return a function that waits for SIGTERM or SIGINT; a second signal ends the process at once.

    Replaces the signal handlers that Ray has set.
    """
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
