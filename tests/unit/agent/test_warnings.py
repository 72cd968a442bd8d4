"""What the tests overlook: one thing that Python does, and nothing that looks like it."""

from __future__ import annotations

import socket
import ssl
import struct
import warnings

import pytest


def reset_connection() -> socket.socket:
    """Return a connection that its peer has reset."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    return client


def test_a_reset_before_the_handshake_is_pythons_to_close() -> None:
    """Whoever asked for TLS cannot: the socket that he holds is an empty shell."""
    with reset_connection() as client:
        with pytest.raises(OSError, match=r"reset|recv buffer|not connected"):
            ssl.create_default_context().wrap_socket(client, server_hostname="x")
        assert client.fileno() == -1


@pytest.mark.parametrize(("tail", "is_told"), [("", False), (", raddr=('127.0.0.1', 6443)", True)])
def test_a_connection_that_was_left_open_is_told_of(tail: str, is_told: bool) -> None:
    """One of ours, which still has its peer."""
    text = f"unclosed <ssl.SSLSocket fd=9, family=2, type=1, proto=6, laddr=('127.0.0.1', 1){tail}>"
    if is_told:
        with pytest.raises(ResourceWarning):
            warnings.warn(text, ResourceWarning, stacklevel=1)
    else:
        warnings.warn(text, ResourceWarning, stacklevel=1)
