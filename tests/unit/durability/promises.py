"""What must hold of a node's disk whatever became of a change, and that the next run finishes it.

A state of the disk is judged once, however many faults lead to it: two that differ in the random
parts of temporary names only are the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from checkpointer.core.facts import Known
from checkpointer.core.workload import Workload
from checkpointer.manifest.render import mark_of
from checkpointer.node.set_aside import hidden_path
from tests.unit.durability.scene import CHANGES, ITSELF, OTHER, Change, Node, Process, temporaries
from tests.unit.durability.trees import Shape, Tree, shape
from tests.unit.store.faulty import Fault, FaultyCalls

IS_FULL = os.environ.get("SWEEP") == "full"
"""Whether to try everything, which takes minutes, or what the default suite has time for."""


class Sweep:
    """One change on one node: its states before and after, and those that were judged."""

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.change: Change = CHANGES[name]
        self.node = Node(root)
        self.change.prepare(self.node)
        self.before = self.node.tree()
        self._foreign = {
            path: item
            for path, item in self.before.items()
            if path.endswith(("etcd.yaml", ".swp", "/stranger")) or "set-aside" in path
        }
        self._served_before = self._served(Process(self.node))
        calls = FaultyCalls()
        process = Process(self.node, calls)
        assert self.change.do(process) is not False
        assert self.change.is_done(Process(self.node))
        self.calls = calls.names
        """The names of the system calls of the change in good health."""
        self.after = self.node.tree()
        self._served_after = self._served(Process(self.node))
        self._judged: dict[Shape, Tree] = {}

    def start(self, fault: Fault | None = None) -> tuple[Process, FaultyCalls]:
        """Return a run of the agent on the node as it was, with this fault ahead of it."""
        self.node.become(self.before)
        calls = FaultyCalls(fault or Fault(-1))
        return Process(self.node, calls), calls

    @property
    def judged(self) -> int:
        """Return how many different states of the disk were judged."""
        return len(self._judged)

    def judge(self, tree: Tree, why: Any, must_be_done: bool = False) -> None:
        """Judge a state of the disk that the node need not be in; `why` tells how it came."""
        key = shape(tree)
        if key in self._judged and not must_be_done:
            return
        self._judged[key] = tree
        self.node.become(tree)
        try:
            self.check()
            if must_be_done:
                assert self.change.is_done(Process(self.node)), "what was reported done is not"
            self.finish()
        except AssertionError as error:
            error.add_note(f"{self.name}: {why}")
            raise

    def check(self) -> None:
        """Whoever opens the disk now finds all of the state before the change or after it."""
        process = Process(self.node)
        served = self._served(process)
        for workload, before in self._served_before.items():
            after, now = self._served_after[workload], served[workload]
            assert now[:1] in (before[:1], after[:1]), (workload, now)
            assert set(now) >= set(before) & set(after), (workload, now)
            assert set(now) <= {*before, *after}, (workload, now)
        self._check_foreign()
        self._check_manifests(process)

    def finish(self) -> None:
        """The next run of the agent cleans up, does what is left to do, and is done."""
        process = Process(self.node)
        assert process.clean() == ()
        if not self.change.is_done(process):
            assert self.change.do(process) is not False
        process = Process(self.node)
        assert self.change.is_done(process)
        self.check()
        assert temporaries(self.node.tree()) == []

    def _served(self, process: Process) -> dict[Workload, list[str]]:
        """Return the digests of the revisions that serve, newest first."""
        workloads = (self.change.workload, OTHER)
        return {w: [r.digest for r in process.found(w).revisions] for w in workloads}

    def _check_foreign(self) -> None:
        for name, item in self._foreign.items():
            path = self.node.disk / name
            if path.name == "etcd.yaml" and not path.exists():
                path = hidden_path(path)
            if "set-aside" in name and not path.exists():
                path = path.with_name("etcd.yaml")
            assert path.read_bytes() == item.content
            assert path.lstat().st_mode & 0o7777 == item.mode

    def _check_manifests(self, process: Process) -> None:
        """What the kubelet sees is foreign, or whole, ours, and mounts what verifies."""
        folder = process.folder.observe()
        assert isinstance(folder, Known)
        for name in os.listdir(self.node.manifests):
            if name.startswith(".") or name == "etcd.yaml":
                continue
            path = f"manifests/{name}"
            content = (self.node.disk / path).read_bytes()
            whole = [t[path].content for t in (self.before, self.after) if path in t]
            assert content in whole or self._is_own_anew(content), "no manifest of ours"
            mark = mark_of(content)
            assert mark is not None
            if self.name != "leave":  # the agent's material goes before its manifest
                assert process.store.verify(mark.workload, mark.revision) == ()

    def _is_own_anew(self, content: bytes) -> bool:
        """Tell whether it is the agent's own, of a revision that got another number."""
        mark = mark_of(content)
        return self.name == "itself" and mark is not None and mark.workload == ITSELF
