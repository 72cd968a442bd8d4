"""What is imported when: a booting node waits for every import, and each one stays in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LATE = {
    "checkpointer.report.http",
    "checkpointer.report.metrics",
    "checkpointer.snapshot",
    "grpc",
    "kubernetes",
    "prometheus_client",
    "rich",
    "tenacity",
    "watchdog",
}
"""Needed once contact has been judged, or once somebody asks."""

NOT_FOR_STATUS = {
    "checkpointer.core.plan",
    "checkpointer.core.decide",
    "email",
    "http.client",
    "random",
    "shutil",
    "uuid",
    "yaml",
}
"""`status` has 0.3 s without an agent, two thirds of which go to imports."""

NOT_FOR_ASKING = {"checkpointer.core.contact", "checkpointer.offline", "hashlib", "ssl"}
"""An agent that answers tells all: `status` then only asks and prints."""

NOT_BEFORE_ASKING = {
    "checkpointer.offline",
    "checkpointer.report.status",
    "checkpointer.store.revisions",
}
"""What is imported while the runtime is asked, and not before."""

NOT_OF_RPC = {
    "asyncio.events",
    "google.protobuf.internal.decoder",
    "google.protobuf.text_format",
    "grpc.aio._channel",
}
"""What gRPC and protobuf bring for others; the packages are there, for who asks."""

NEVER = {"pydantic", "dateutil", "kubernetes.client.api_client", "kubernetes.client.models"}
"""What the Kubernetes client library brings for typed models: for an exec plugin alone."""


def imported_by(code: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter has after the code."""
    code = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("checkpointer.agent", LATE | NEVER),
        ("checkpointer.node.probe", LATE | NEVER | {"checkpointer.node.api", "grpc", "asyncio"}),
        ("checkpointer.cli.status", LATE | NEVER | NOT_FOR_STATUS | NOT_FOR_ASKING),
        ("checkpointer.report.agent_socket", LATE | NEVER | NOT_FOR_STATUS | NOT_FOR_ASKING),
        ("checkpointer.node.inquiry", (LATE - {"grpc"}) | NEVER | NOT_BEFORE_ASKING | NOT_OF_RPC),
        ("checkpointer.node.cri", NOT_OF_RPC),
        ("checkpointer.offline", LATE | NEVER | NOT_FOR_STATUS),
        ("checkpointer.node.api", NEVER),
        ("checkpointer.snapshot", NEVER),
        ("checkpointer.report.metrics", NEVER),
    ],
)
def test_module_imports_nothing_that_can_wait(module: str, forbidden: set[str]) -> None:
    """What is imported too early delays the first activation; what is not needed costs memory."""
    assert forbidden & imported_by(f"import {module}") == set()


def test_status_without_an_agent_is_soon_there(tmp_path: Path) -> None:
    """A command line has its own share of the time, its help included."""
    call = f"['status', '--set', 'storeDirectory={tmp_path}', '--set', 'runtimeEndpoint=/none']"
    code = f"from checkpointer.__main__ import main; print(main({call}))"
    found = imported_by(code)
    assert "checkpointer.offline" in found
    assert ((LATE - {"grpc"}) | NEVER | NOT_FOR_STATUS | NOT_OF_RPC) & found == set()


@pytest.mark.parametrize(
    "asked",
    [
        "from kubernetes import config; config.load_kube_config",
        "from kubernetes import client; client.CoreV1Api",
        "import kubernetes.client; kubernetes.client.V1Pod",
    ],
)
def test_the_whole_library_is_there_for_who_asks(asked: str) -> None:
    """An exec plugin's credentials are its business, and so is whatever else it is asked for."""
    code = f"import checkpointer.node.client_library as ours; {asked}"
    check = "from kubernetes.client import Configuration as its; assert its is ours.Configuration"
    assert "kubernetes.client" in imported_by(f"{code}; {check}")
