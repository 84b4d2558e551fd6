"""The settings of glibc's malloc in processes that take values."""

from __future__ import annotations

KEEP_BYTES = 256 << 20
"""The most freed memory that such a process keeps, in bytes."""

MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(KEEP_BYTES),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""The environment of the process, from its start: received memory is kept and used again.

gRPC allocates memory for each message. By default glibc maps it, and unmaps it with the message, so that each page of
each frame is touched for the first time. Arenas other than the first do the same whatever the thresholds are.
"""
