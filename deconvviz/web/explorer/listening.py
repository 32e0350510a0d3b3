"""Address that the server listens on: the socket, the address for the user, and the accepted Host headers."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass

from deconvviz.errors import OutputError

HOST = "127.0.0.1"
PORT = 8765
EVERY = {"0.0.0.0", "::"}
"""Addresses that stand for all addresses of this machine."""


@dataclass(frozen=True)
class Place:
    """Host and port of a server."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Address for a browser on this machine."""
        return f"http://{_written(HOST if self.host in EVERY else self.host)}:{self.port}/"

    @property
    def url_of_others(self) -> str:
        """Address for browsers on other machines; empty if it is `url`, or if they cannot connect."""
        return f"http://{socket.gethostname()}:{self.port}/" if self.host in EVERY else ""

    def accepts(self, header: str) -> bool:
        """Return whether a Host header names this server.

        If the server listens on all addresses of the machine, any numeric address is accepted. A page of
        another site cannot send one (DNS rebinding): its Host is the name of the site.
        """
        name, _, port = header.lower().rpartition(":")
        if port != str(self.port):
            return False
        names = {_written(self.host).lower(), "localhost"}
        if self.host not in (HOST, "localhost"):
            names.add(socket.gethostname().lower())
        return name in names or (self.host in EVERY and _is_numeric(name))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OutputError: The port is in use, or the address is not one of this machine.
    """
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)
    except OSError as error:
        found.close()
        raise _refused(host, port, error) from error
    return found


def _refused(host: str, port: int, error: OSError) -> OutputError:
    start = f"cannot listen on {_written(host)}:{port}: {(error.strerror or str(error)).lower()}. "
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return OutputError(start + "Choose an address of this machine with {option}", option="host=ADDRESS")
    return OutputError(start + "Choose another port with {option}, or 0 for any free one", option="port=N")


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_numeric(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
