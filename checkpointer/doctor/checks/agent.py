"""Does an agent run, and will one be there after a reboot that finds no API?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from checkpointer.core.facts import Known, Unknown
from checkpointer.doctor.facts import AgentSilent, Facts
from checkpointer.doctor.result import Answer, failed, passed, skipped, warned
from checkpointer.node.static_pods import StaticPod

_BOOT_CURE = (
    "see that the agent's own checkpoint is in the manifest folder, or run the agent as a "
    "service or a static pod of this node"
)

_HANGS_CURE = (
    "see its log (`checkpointer logs` or `journalctl -u`), then restart its pod or its service"
)


def user(facts: Facts) -> Iterator[Answer]:
    """The doctor may look everywhere."""
    if facts.is_root:
        yield passed("root")
    else:
        yield warned("not root: much of what follows cannot be seen", "run it as root")


def running(facts: Facts) -> Iterator[Answer]:
    """An agent holds the lock."""
    if isinstance(facts.lock, Unknown):
        yield skipped(facts.lock.reason)
    elif not facts.lock.value.is_held:
        yield failed(
            f"no agent runs: nobody holds {facts.config.lock_file}. No snapshot is taken, and "
            "nothing would be activated",
            "start it; `kubectl -n kube-system get pods` or `systemctl status` say why it is not",
        )
    else:
        yield passed(f"it runs{_how(facts)}")


def contact(facts: Facts) -> Iterator[Answer]:
    """The running agent has contact, and nothing troubles it."""
    if isinstance(facts.agent, Unknown):
        yield _unasked(facts, facts.agent.reason)
        return
    said = facts.agent.value
    if isinstance(said, AgentSilent):
        what = f"an agent runs, but does not answer: {said.reason}; one that hangs does nothing"
        yield failed(what, _HANGS_CURE)
        return
    what = f"the agent says that contact is {said.contact} ({said.reason})"
    if said.contact == "denied":
        yield failed(what, "see `api` and `identity-expiry` above: nothing is activated meanwhile")
    elif said.contact != "reachable":
        yield warned(what, "see `api` above: no snapshots are taken meanwhile")
    else:
        yield passed(what)
    for problem in said.problems:
        yield warned(f"the agent says: {problem}", "its log and `checkpointer status` tell more")


def at_boot(facts: Facts) -> Iterator[Answer]:
    """Something starts the agent when the API cannot: its own checkpoint, or a service."""
    if isinstance(facts.static_pods, Unknown):
        yield skipped(facts.static_pods.reason)
        return
    agents = [pod.file_name for pod in facts.static_pods.value if _is_agent(pod, facts)]
    if agents:
        yield passed(f"the kubelet starts it from {agents[0]}")
    elif isinstance(facts.lock, Unknown):
        yield warned("nothing in the manifest folder would start the agent at boot", _BOOT_CURE)
    elif not facts.lock.value.is_held:
        yield failed(
            "no agent runs, and nothing in the manifest folder would start one at boot", _BOOT_CURE
        )
    elif facts.lock.value.service:
        yield passed(f"it runs as {facts.lock.value.service}")
    elif facts.lock.value.is_in_pod:
        yield failed(
            "the agent runs in a pod of the API, and nothing in the manifest folder would start "
            "it at boot: without the API there would be no agent",
            _BOOT_CURE,
        )
    else:
        yield warned("it cannot be told what would start the agent at boot", _BOOT_CURE)


def _unasked(facts: Facts, reason: str) -> Answer:
    """Say that nobody could be asked: no wonder without an agent, or with one that just starts."""
    if isinstance(facts.lock, Known) and facts.lock.value.is_held:
        cure = f"if it has not only just started: {_HANGS_CURE}"
        return warned(f"an agent holds {facts.config.lock_file}, but cannot be asked", cure)
    return skipped(reason)


def _how(facts: Facts) -> str:
    if isinstance(facts.lock, Unknown):
        return ""
    if facts.lock.value.service:
        return f", as {facts.lock.value.service}"
    return ", in a pod" if facts.lock.value.is_in_pod else ""


def _is_agent(pod: StaticPod, facts: Facts) -> bool:
    """Tell whether a static pod has what only an agent needs: both of its folders."""
    needed = (facts.config.store_directory, facts.config.manifest_directory)
    return not pod.problem and all(
        any(PurePath(path) == folder or PurePath(path) in folder.parents for path in pod.host_paths)
        for folder in needed
    )
