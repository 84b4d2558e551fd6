"""What glibc's malloc is told in processes that take values."""

from __future__ import annotations

KEEP_BYTES = 256 << 20
"""Freed memory that stays with such a process, at most, in bytes."""

MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(KEEP_BYTES),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""Environment of the process, from its start: received memory is kept and used again.

gRPC takes memory for each message afresh. By default glibc maps it, and unmaps it with the message: each page of each
frame is touched for the first time. Arenas other than the first do the same whatever the thresholds are.
"""
