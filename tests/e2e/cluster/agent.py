"""The agent under test, as a process of the machine like the kubelet."""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import Any

from tests.e2e.cluster.kubelet import NODE
from tests.e2e.cluster.machine import Machine
from tests.e2e.cluster.processes import Process

CONFIG = "/etc/kubernetes/checkpointer.yaml"
STORE = "etc/kubernetes/checkpointer"
MANIFEST_PREFIX = "pod-checkpointer-"


def start_agent(machine: Machine, settings: dict[str, Any]) -> Process:
    """Start the agent with the kubelet's identity and its default folders."""
    document = {
        "apiVersion": "checkpointer.alpha.coreos.com/v1alpha1",
        "kind": "CheckpointerConfiguration",
        "nodeName": NODE,
        **settings,
    }
    (machine.disk / CONFIG.strip("/")).write_text(json.dumps(document))
    return machine.start("agent", *command(), "run", "--config", CONFIG)


def command() -> list[str]:
    """Return how `checkpointer` is called; the command comes next."""
    return shlex.split(os.environ.get("E2E_AGENT") or f"{sys.executable} -m checkpointer")
