"""The sink for grpc://HOST:PORT: a service, and a spool on local disk for when it is away; see spool/options.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lumatile.delivery.adoption import Adoption
from lumatile.delivery.flight_sink import FlightSink
from lumatile.settings import RecordingSettings
from lumatile.spool.options import root_of, spool_options
from lumatile.spool.spool import Spool
from lumatile.values import LoggedValue


def open_service(
    url: str,
    settings: RecordingSettings,
    *,
    addresses: Callable[[], Sequence[str]] | None = None,
    settled: Callable[[Sequence[LoggedValue]], None] = lambda _: None,
) -> FlightSink:
    """Open the sink of the service at `url`, which need not answer yet.

    Args:
        url: grpc://HOST:PORT or grpc+tls://HOST:PORT, with the options of a spool.
        settings: of the recording.
        addresses: as in FlightSink.
        settled: as in FlightSink.

    Raises:
        InvalidValueError: the URL has other options, or their values are not allowed.
    """
    handed_over = root_of(url)
    url, options = spool_options(url)
    roots = [handed_over] if options.root is None else [options.root, handed_over]
    adoption = Adoption(roots, url, addresses)
    spool = None if options.root is None else Spool(options.root, url, settings, capacity=options.capacity)
    return FlightSink(
        url,
        settings,
        addresses=addresses,
        spool=spool,
        settled=settled,
        on_open=adoption.begin,
        on_end=adoption.end,
    )
