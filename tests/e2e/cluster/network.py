"""The machine's network: sockets into it from outside, and cutting the way to the API."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Callable, Iterator

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """The network namespace of a running machine."""

    def __init__(self, pid: int, run: Callable[..., str]) -> None:
        self._pid = pid
        self._run = run

    def connect(self, address: tuple[str, int], seconds: float) -> socket.socket:
        """Return a connection that was made inside the machine; a socket stays where it was made.

        Only the calling thread goes there, and only for the moment of making the socket.
        """
        with self._entered():
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.settimeout(seconds)
            connection.connect(address)
        except BaseException:
            connection.close()
            raise
        return connection

    def cut(self, address: str, port: int, refuse: bool) -> None:
        """Drop every packet to the address and port, or answer it with a reset.

        Packets of open connections are no exception. Nothing from there is stopped: a peer that
        gets no acknowledgement says nothing new, and a reset has to come through.
        """
        verdict = "reject with tcp reset" if refuse else "drop"
        rules = f"""
            table inet cut {{
                chain out {{
                    type filter hook output priority 0
                    ip daddr {address} tcp dport {port} {verdict}
                }}
            }}"""
        self._run("nft", "-f", "-", text=rules)

    def mend(self) -> None:
        self._run("nft", "delete", "table", "inet", "cut")

    def pretend(self, address: str, port: int, real: tuple[str, int]) -> None:
        """Have what is sent to an address that no machine has go to one of this machine."""
        self._run("ip", "address", "add", f"{address}/32", "dev", "lo")
        rules = f"""
            table ip pretend {{
                chain out {{
                    type nat hook output priority -100
                    ip daddr {address} tcp dport {port} dnat to {real[0]}:{real[1]}
                }}
            }}"""
        self._run("nft", "-f", "-", text=rules)

    @contextlib.contextmanager
    def _entered(self) -> Iterator[None]:
        with open("/proc/thread-self/ns/net") as home, open(f"/proc/{self._pid}/ns/net") as away:
            _enter(away.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
