"""Ports of loopback that tests listen on."""

import random
import socket

PORTS = range(20_000, 32_000)
"""Below the ports that systems give to outgoing connections, none of which can take one between two uses."""


def free_port(count=1):
    """Return the first of `count` ports in a row that nobody has bound."""
    for first in random.sample(PORTS, 1000):  # other processes of tests choose, too
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise OSError("no port is free")
