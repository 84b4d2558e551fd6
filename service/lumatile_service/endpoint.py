"""The addresses at which servers listen: a host and a port, or a range of ports."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from lumatile.errors import InvalidValueError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A host and one of its ports."""

    host: str
    """A name or an address, without brackets."""
    port: int
    """The port; 0: any free one."""

    @staticmethod
    def parse(text: str) -> Endpoint:
        """Parse HOST:PORT, an IPv6 address in brackets. Raises InvalidValueError."""
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]]+)):(\d{1,5})", text)
        if match is None or int(match[3]) > 65535:
            raise InvalidValueError(f"an address must be HOST:PORT, not {text!r}")
        return Endpoint(host=match[1] or match[2], port=int(match[3]))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the endpoint; False for a name other than localhost, which may be any."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def is_wildcard(self) -> bool:
        """Whether the host stands for all addresses of the machine, and so is none that a client can use."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The endpoint as grpc://HOST:PORT."""
        return f"grpc://{self}"

    @property
    def why_taken(self) -> str | None:
        """Why no server can listen at the endpoint now; None: one can."""
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen()
        except OSError as e:
            return e.strerror or str(e)
        return None


def own_address() -> str:
    """Return an address of this machine that others can reach: that of its default route, else that of its name.

    Raises InvalidValueError if all are loopback (on Debian, the machine's name is).
    """
    for find in (_route, lambda: socket.gethostbyname(socket.gethostname())):
        with suppress(OSError):
            address = find()
            if not ipaddress.ip_address(address).is_loopback:
                return address
    raise InvalidValueError("this machine has no address that others can reach: give one with --advertise")


def _route() -> str:
    """Return the source address of packets to other networks; none is sent. 192.0.2.1 is unassigned (RFC 5737)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def port_range(text: str | None) -> Sequence[int]:
    """Return the ports of "A-B" or "A"; for None (0,), any free one. Raises InvalidValueError."""
    if text is None:
        return (0,)
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= 65535:
        raise InvalidValueError(f"ports must be A-B, between 1 and 65535, not {text!r}")
    return range(first, last + 1)
