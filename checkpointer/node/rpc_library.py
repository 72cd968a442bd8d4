"""gRPC and protobuf, without what is not used of them.

They import gRPC's other interface, with asyncio that it is made for, and protobuf's messages in
pure Python: more than half of the 70 ms that they take, of the 300 ms that `status` has. To be
imported before the generated messages.
"""

from __future__ import annotations

import os

from checkpointer.node.late_modules import load_late

# Read once, when gRPC's C core starts: no messages of its own on stderr (every failure is told
# as a RuntimeCallError), and no handlers around fork (the agent only forks to exec).
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

for _name in ("asyncio", "grpc.aio", "google.protobuf.internal.python_message"):
    load_late(_name)

import grpc  # noqa: E402
from google.protobuf.message import DecodeError, Message  # noqa: E402

__all__ = ["DecodeError", "Message", "grpc"]
