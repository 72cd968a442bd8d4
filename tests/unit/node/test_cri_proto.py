"""The generated CRI messages are those of the .proto beside them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from checkpointer.node import cri_v1_pb2

ROOT = Path(__file__).parents[3]
PROTO = "checkpointer/node/cri_v1.proto"


def test_the_committed_module_is_what_the_proto_generates(tmp_path: Path) -> None:
    """The descriptor decides; the text around it changes with the generator's version."""
    pytest.importorskip("grpc_tools")
    out = tmp_path / "set"
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_out={out}", PROTO],
        cwd=ROOT,
        check=True,
    )
    (generated,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    committed = descriptor_pb2.FileDescriptorProto()
    cri_v1_pb2.DESCRIPTOR.CopyToProto(committed)
    generated.ClearField("source_code_info")
    for message in _messages(generated.message_type):
        for field in message.field:
            field.ClearField("json_name")
    for message in _messages(committed.message_type):
        for field in message.field:
            field.ClearField("json_name")
    assert generated == committed


def _messages(
    found: object,
) -> list[descriptor_pb2.DescriptorProto]:
    """Return messages and the ones nested in them."""
    all_of_them: list[descriptor_pb2.DescriptorProto] = []
    for message in found:  # type: ignore[attr-defined]
        all_of_them += [message, *_messages(message.nested_type)]
    return all_of_them
