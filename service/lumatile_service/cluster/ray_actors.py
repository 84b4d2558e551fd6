"""Ingest nodes as Ray actors: each `IngestNode` is named, restarted for ever, and they are spread over a cluster."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util import list_named_actors

from lumatile.errors import FlushError, SinkError
from lumatile_service.cluster.malloc import MALLOC
from lumatile_service.cluster.placement import place
from lumatile_service.cluster.ray_session import NAMESPACE
from lumatile_service.endpoint import LOOPBACK
from lumatile_service.ingest.access import Access
from lumatile_service.ingest.ingest_node import IngestNode

log = logging.getLogger(__name__)

SERVICE = "lumatile"
"""The name of a service: its actors are called SERVICE-ingest-0 and so on."""

ASK_SECONDS = 1.0
"""An actor that takes longer to answer is left out."""

PROMPT_SECONDS = 0.2
"""Once an actor has answered, the others are not waited for longer than this: one that is restarted answers late."""

CACHE_SECONDS = 1.0
"""The actors are asked again after this time."""

START_SECONDS = 60.0
"""The longest wait for the actors of a service that starts."""

GONE_SECONDS = 20.0
"""The longest wait for actors to disappear."""

THREADS = 8
"""The calls that an actor takes at once: while it drains it still answers with its address."""


class IngestActors:
    """The ingest actors of one service, which end with it."""

    def __init__(
        self,
        store: str,
        *,
        actors: int | None,
        host: str,
        advertise: str | None,
        ports: Sequence[int],
        access: Access,
    ) -> None:
        """Create the actors and wait until they answer.

        `actors`: their number; None: as `place` says. The other arguments are those of IngestNode.
        Raises SinkError where none of them starts.
        """
        nodes = [entry for entry in ray.nodes() if entry["Alive"]]
        machines = {entry["NodeManagerAddress"] for entry in nodes}
        if len(machines) > 1 and host == LOOPBACK:
            raise SinkError(f"this Ray has {len(machines)} machines, and actors that listen on loopback serve only one")
        placement = place([entry["Resources"] for entry in nodes], actors)
        self._names = [f"{SERVICE}-ingest-{number}" for number in range(placement.actors)]
        _wait_until_gone(self._names)
        node = ray.remote(IngestNode)
        self._actors = [
            node.options(
                name=name,
                namespace=NAMESPACE,
                num_cpus=placement.cpus,
                num_gpus=placement.gpus,
                max_restarts=-1,
                max_concurrency=THREADS,
                scheduling_strategy="SPREAD",
                runtime_env={"env_vars": MALLOC},
            ).remote(name, store, host=host, advertise=advertise, ports=ports, access=access)
            for name in self._names
        ]
        self._lock = threading.Lock()
        self._asked = -CACHE_SECONDS
        self._loads: list[tuple[str, float] | None] = [None for _ in self._actors]
        """Address of each actor, with its streams when it was asked and the clients that it was named to first since
        then; infinite: it has not answered lately. None: it has never answered."""
        answers = _ask(self._actors, "address", START_SECONDS)
        if not any(isinstance(answer, str) for answer in answers):
            raise SinkError(f"no ingest actor started: {answers[0]}")

    def addresses(self) -> list[str]:
        """Return the addresses of the actors, the one with the fewest streams first, and last those that answer late.

        They are asked again after CACHE_SECONDS.
        """
        with self._lock:
            if time.monotonic() - self._asked >= CACHE_SECONDS:
                late = [None if before is None else (before[0], float("inf")) for before in self._loads]
                self._loads = [answer or before for answer, before in zip(_loads(self._actors), late, strict=True)]
                self._asked = time.monotonic()
            found = sorted(
                (load, address, i) for i, known in enumerate(self._loads) if known for address, load in [known]
            )
            if found:
                load, address, i = found[0]
                self._loads[i] = address, load + 1
            return [address for _, address, _ in found]

    def statuses(self) -> list[dict[str, Any]]:
        """Return the status of each actor; for one that does not answer, why."""
        answers = _ask(self._actors, "status", ASK_SECONDS)
        return [
            answer if isinstance(answer, dict) else {"name": name, "error": str(answer)}
            for name, answer in zip(self._names, answers, strict=True)
        ]

    def drain(self, timeout: float) -> None:
        """Make all received values durable, and end the actors. Raises FlushError if that fails or takes too long."""
        answers = _ask(self._actors, "drain", timeout, max(0.0, timeout - ASK_SECONDS))  # with time left for the answer
        for actor in self._actors:
            ray.kill(actor)
        _wait_until_gone(self._names)
        failures = [answer for answer in answers if isinstance(answer, Exception)]
        for name, answer in zip(self._names, answers, strict=True):
            if isinstance(answer, Exception):
                log.error("%s did not drain: %s", name, answer)
        if failures:
            raise FlushError(
                len(failures), "actors did not drain; clients send again the values that these had not acknowledged"
            )


def named_addresses(service: str) -> list[str]:
    """Return the addresses of the live ingest actors of a service of this Ray, the one with the fewest streams first.

    Raises SinkError where there is none, or no Ray.
    """
    if not ray.is_initialized():
        raise SinkError("a ray:// sink is for processes of a Ray job: call ray.init first, or use grpc://HOST:PORT")
    prefix = f"{service}-ingest-"
    try:
        names = [entry["name"] for entry in list_named_actors(all_namespaces=True) if entry["namespace"] == NAMESPACE]
        actors = [ray.get_actor(name, NAMESPACE) for name in sorted(names) if name.startswith(prefix)]
        loads = [answer for answer in _loads(actors) if answer is not None]
    except (RayError, ValueError, ConnectionError) as e:
        raise SinkError(f"the actors of {service!r} cannot be found: {_last_line(e)}") from e
    if not loads:
        raise SinkError(f"no ingest actor {prefix}N answers in the namespace {NAMESPACE!r} of this Ray")
    order = random.SystemRandom()  # that of `random` belongs to the program
    return [address for address, _ in sorted(loads, key=lambda load: (load[1], order.random()))]


def _loads(actors: Sequence[Any]) -> list[tuple[str, float] | None]:
    """Return the address of each actor and the number of its streams; None: it does not answer soon."""
    references = [actor.load.remote() for actor in actors]
    if references and not ray.wait(references, num_returns=len(references), timeout=PROMPT_SECONDS)[0]:
        ray.wait(references, num_returns=1, timeout=ASK_SECONDS)
    answers = [_answer(reference) for reference in references]
    return [answer if isinstance(answer, tuple) else None for answer in answers]


def _ask(actors: Sequence[Any], method: str, timeout: float, *arguments: Any) -> list[Any]:
    """Return the answer of each actor; for those that do not answer within `timeout` seconds, an exception."""
    references = [getattr(actor, method).remote(*arguments) for actor in actors]
    if references:
        ray.wait(references, num_returns=len(references), timeout=timeout)
    return [_answer(reference) for reference in references]


def _answer(reference: Any) -> Any:
    try:
        return ray.get(reference, timeout=0)
    except Exception as e:  # noqa: BLE001 - Ray raises what the actor raised, as a type made on the spot
        return SinkError("no answer" if isinstance(e, TimeoutError) else _last_line(e))


def _last_line(error: BaseException) -> str:
    """Return the last line of a Ray error: the text of a remote error is its traceback, which ends with the message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _wait_until_gone(names: Sequence[str]) -> None:
    """Wait for names to become free. Raises SinkError where one stays."""
    deadline = time.monotonic() + GONE_SECONDS
    while taken := [name for name in names if _exists(name)]:
        if time.monotonic() > deadline:
            raise SinkError(f"this Ray has an actor {taken[0]} already: another service runs in it")
        time.sleep(0.1)


def _exists(name: str) -> bool:
    try:
        ray.get_actor(name, NAMESPACE)
    except ValueError:
        return False
    return True
