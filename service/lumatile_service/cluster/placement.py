"""The number of ingest actors in a cluster, and the resources that each reserves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CPUS = 2
"""The cores of an actor that has no GPU: one for Arrow Flight and the store, one for kernels."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The number of actors and the resources of each."""

    actors: int
    cpus: float
    """The cores that each actor reserves."""
    gpus: float
    """The GPUs that each actor reserves."""


def place(nodes: Sequence[Mapping[str, float]], actors: int | None = None) -> Placement:
    """Return one actor for each GPU of `nodes`; without GPUs one for two cores, at least one.

    `nodes`: Ray's resources of each node. `actors`: the number of actors instead; if it is larger, they share.
    """
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if gpus:
        count = actors or gpus
        return Placement(actors=count, cpus=0, gpus=_share(1, count, gpus))
    room = sum(int(node.get("CPU", 0)) // CPUS for node in nodes)
    count = actors or max(1, room)
    return Placement(actors=count, cpus=_share(CPUS, count, room) if room else 0, gpus=0)


def _share(whole: float, count: int, room: int) -> float:
    """Return the share of each of `count`, if `room` of them would get `whole`, in Ray's steps of 1/10000."""
    return math.floor(whole / math.ceil(count / room) * 10_000) / 10_000
