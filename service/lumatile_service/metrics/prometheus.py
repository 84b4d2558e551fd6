"""The statuses of a service's actors, as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Status = Mapping[str, Any]
"""The result of `IngestNode.status`; for an actor that does not answer: name and error."""

LATENCY = "lumatile_log_to_durable_seconds"


@dataclass(frozen=True, kw_only=True)
class _Family:
    """A metric: one number of each status, under one name."""

    name: str
    """The name without a counter's _total; its last word is the unit."""
    text: str
    """The text of HELP."""
    key: tuple[str, ...]
    """The keys that lead to the number in a status, or to a mapping from reasons to numbers."""
    gauge: bool = False
    """The number may fall."""
    reasons: bool = False
    """There is a number for each reason."""

    def filled(self, statuses: Sequence[Status]) -> Metric:
        """Return the metric with the numbers of these actors."""
        kind = GaugeMetricFamily if self.gauge else CounterMetricFamily
        labels = ["actor", "reason"] if self.reasons else ["actor"]
        family = kind(self.name, self.text, labels=labels, unit=_unit(self.name))
        for status in statuses:
            number: Any = status
            for part in self.key:
                number = number[part]
            if self.reasons:
                for reason, count in number.items():
                    family.add_metric([status["name"], reason], count)
            else:
                family.add_metric([status["name"]], number)
        return family


FAMILIES = (
    _Family(
        name="lumatile_accepted_values",
        text="Values received completely; a value that was sent twice counts twice.",
        key=("accepted", "values"),
    ),
    _Family(
        name="lumatile_accepted_bytes",
        text="Memory that accepted values held.",
        key=("accepted", "bytes"),
    ),
    _Family(
        name="lumatile_acknowledged_values",
        text="Values acknowledged to a client as durable; a value that was sent twice counts twice.",
        key=("acknowledged", "values"),
    ),
    _Family(
        name="lumatile_acknowledged_bytes",
        text="Memory that acknowledged values held.",
        key=("acknowledged", "bytes"),
    ),
    _Family(
        name="lumatile_stored_values",
        text="Values that became durable, each counted once; a range of dropped values is stored as one value.",
        key=("stored", "values"),
    ),
    _Family(
        name="lumatile_stored_bytes",
        text="Memory that stored values held.",
        key=("stored", "bytes"),
    ),
    _Family(
        name="lumatile_duplicate_values",
        text="Values received again, which are acknowledged and not stored again.",
        key=("duplicate_values",),
    ),
    _Family(
        name="lumatile_dropped_values",
        text="Values that processes dropped before sending them, by the gaps that are stored in their place.",
        key=("dropped_values",),
    ),
    _Family(
        name="lumatile_refused_values",
        text="Values that will never be stored, because they are too large or break the rules.",
        key=("refused_values",),
        reasons=True,
    ),
    _Family(
        name="lumatile_errors",
        text="Faults by reason; none of them loses an acknowledged value.",
        key=("errors",),
        reasons=True,
    ),
    _Family(
        name="lumatile_segments",
        text="Segments committed to the store.",
        key=("segments",),
    ),
    _Family(
        name="lumatile_segment_bytes",
        text="Size of the files of committed segments, without the files that small segments are merged into later.",
        key=("segment_bytes",),
    ),
    _Family(
        name="lumatile_queue_bytes",
        text="Memory of values and tiles that wait to be written.",
        key=("queued_bytes",),
        gauge=True,
    ),
    _Family(
        name="lumatile_pending_values",
        text="Values that are accepted and not durable yet.",
        key=("pending_values",),
        gauge=True,
    ),
    _Family(
        name="lumatile_recordings",
        text="Recordings that are open for writing.",
        key=("recordings",),
        gauge=True,
    ),
    _Family(
        name="lumatile_streams",
        text="Streams of clients.",
        key=("streams",),
        gauge=True,
    ),
)


class ServiceCollector(Collector):
    """Reads the numbers of the actors when a client asks. Labels are only the names of actors and reasons."""

    def __init__(self, statuses: Callable[[], Sequence[Status]]) -> None:
        """Collect from `statuses`, which returns the status of each actor now."""
        self._statuses = statuses

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without numbers."""
        return _families(())

    def collect(self) -> Iterable[Metric]:
        """Return the metrics; an actor that does not answer is only in `lumatile_actor_up`."""
        return _families(self._statuses())


def metrics_app(statuses: Callable[[], Sequence[Status]]) -> Callable[..., Iterable[bytes]]:
    """Return a WSGI application that serves the metrics of `ServiceCollector`, as text or, if asked, as OpenMetrics."""
    registry = CollectorRegistry()
    registry.register(ServiceCollector(statuses))
    return make_wsgi_app(registry)


def _families(statuses: Sequence[Status]) -> Iterator[Metric]:
    up = GaugeMetricFamily("lumatile_actor_up", "Whether the actor answers: 1 or 0.", labels=["actor"])
    for status in statuses:
        up.add_metric([status["name"]], 0 if "error" in status else 1)
    yield up
    answers = [status for status in statuses if "error" not in status]
    for family in FAMILIES:
        yield family.filled(answers)
    yield _latency(answers)


def _latency(answers: Sequence[Status]) -> Metric:
    text = (
        "Time from the log call until the value was durable, of stored values. The call is timed by the clock of "
        "the machine that logged, the end by the clock of the actor; a negative time counts as 0."
    )
    latency = HistogramMetricFamily(LATENCY, text, labels=["actor"], unit=_unit(LATENCY))
    for status in answers:
        spread = status["log_to_durable"]
        buckets = [(str(bound), count) for bound, count in spread["buckets"]]
        latency.add_metric([status["name"]], buckets, spread["sum"])
    return latency


def _unit(name: str) -> str:
    """Return the unit of a metric: the last word of its name."""
    return name.rpartition("_")[2]
