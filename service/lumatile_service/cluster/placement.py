"""How many ingest actors a cluster gets, and what each reserves there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CPUS = 2
"""Cores of an actor that has no GPU: one for Arrow Flight and the store, one for kernels."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Actors and their resources."""

    actors: int
    cpus: float
    """Cores that each reserves."""
    gpus: float
    """GPUs that each reserves."""


def place(nodes: Sequence[Mapping[str, float]], actors: int | None = None) -> Placement:
    """Ray's resources of each node -> one actor a GPU; without any one for two cores, at least one.

    `actors`: so many instead; where that is more, they share.
    """
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if gpus:
        count = actors or gpus
        return Placement(actors=count, cpus=0, gpus=_share(1, count, gpus))
    room = sum(int(node.get("CPU", 0)) // CPUS for node in nodes)
    count = actors or max(1, room)
    return Placement(actors=count, cpus=_share(CPUS, count, room) if room else 0, gpus=0)


def _share(whole: float, count: int, room: int) -> float:
    """What each of `count` gets where `room` of them would get `whole`, in Ray's steps of 1/10000."""
    return math.floor(whole / math.ceil(count / room) * 10_000) / 10_000
