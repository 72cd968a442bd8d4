"""Each check, on a node on which all is well and on nodes that lack one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checkpointer.core.checkpoint import Checkpoint, HandOver, Record
from checkpointer.core.contact import ProbeOutcome, ProbeResult
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.hold import Hold
from checkpointer.core.observation import KubeletRun
from checkpointer.core.runtime import Runtime
from checkpointer.core.workload import Workload
from checkpointer.doctor.checks import CHECKS, check
from checkpointer.doctor.facts import AgentSays, AgentSilent, ApiView
from checkpointer.doctor.result import Outcome, worst
from checkpointer.manifest.verdict import Finding
from checkpointer.node.agent_lock import AgentLock
from checkpointer.node.certificates import Validity
from checkpointer.node.kubelet_settings import KubeletSettings
from checkpointer.node.static_pods import StaticPod
from tests.unit.doctor.builders import (
    AGENT,
    CONTAINER,
    DAY,
    EXAMINED,
    IDENTITY,
    MANIFESTS,
    NOW,
    PLACE,
    POD,
    REVISION,
    STORE,
    WEB,
    ask,
    healthy,
)

PASS, SKIP, WARN, FAIL = Outcome.PASS, Outcome.SKIP, Outcome.WARN, Outcome.FAIL
GONE = Unknown("no answer within 5 s")
ENDPOINT = "https://api:6443"


def settings(**changes: Any) -> dict[str, Any]:
    given = KubeletSettings("config.yaml", MANIFESTS, "unix:///run/cri.sock")
    return {"kubelet": Known(replace(given, **changes))}


def identity(**changes: Any) -> dict[str, Any]:
    return {"identity": Known(replace(IDENTITY, **changes))}


def certificate(begins: float, ends: float) -> dict[str, Any]:
    return identity(certificate=Validity("CN=x", NOW + begins, NOW + ends))


def probe(outcome: ProbeOutcome, reason: str) -> dict[str, Any]:
    return {"probes": Known({ENDPOINT: ProbeResult(outcome, reason)})}


def api(pods: Any = (POD,), offset: Any = 0.0) -> dict[str, Any]:
    return {"api": Known(ApiView(Known(pods), Known(offset), Known("v1.36.2")))}


def place(key: str, **changes: Any) -> dict[str, Any]:
    path = {"store_place": STORE, "manifest_place": MANIFESTS}[key]
    return {key: Known(replace(PLACE, path=path, **changes))}


def examined(**changes: Any) -> dict[str, Any]:
    return {"examined": Known((replace(EXAMINED, **changes),))}


def stored(*numbers: int, failed: tuple[int, ...] = (), problems: tuple[str, ...] = ()) -> Any:
    revisions = tuple(replace(REVISION, number=number) for number in numbers)
    return examined(checkpoint=Checkpoint(WEB, revisions, Record(failed=failed), problems))


def way(**changes: Any) -> dict[str, Any]:
    record = Record(hand_over=HandOver(**changes))
    return examined(checkpoint=Checkpoint(WEB, (REVISION,), record))


def held(wanted: str, until: float = 0.0) -> dict[str, Any]:
    hold = Hold(wanted, NOW - 60, "root", until=until)
    return examined(checkpoint=Checkpoint(WEB, (REVISION,), hold=hold))


def files(*pods: StaticPod) -> dict[str, Any]:
    return {"static_pods": Known(pods)}


def web(file_name: str, **changes: Any) -> StaticPod:
    return StaticPod(file_name, "kube-system", **changes)


CASES: Mapping[str, list[tuple[dict[str, Any], Outcome, str]]] = {
    "user": [({"is_root": False}, WARN, "not root")],
    "static-pod-path": [
        ({"kubelet": GONE}, WARN, "it cannot be told which folder the kubelet reads"),
        (settings(static_pod_path=None), FAIL, "the kubelet runs no static pods"),
        (settings(static_pod_path=Path("/other")), FAIL, "the kubelet reads /other"),
    ],
    "manifest-folder": [
        ({"manifest_place": GONE}, FAIL, GONE.reason),
        (place("manifest_place", exists=False), FAIL, "is no folder"),
        (place("manifest_place", owner=1000), FAIL, "belongs to user 1000"),
        (place("manifest_place", mode=0o775), FAIL, "writable by others (mode 0775)"),
        (place("manifest_place", kind="tmpfs"), FAIL, "a reboot empties it"),
        (place("manifest_place", is_read_only=True), FAIL, "mounted read-only"),
    ],
    "kubelet": [
        ({"kubelet_run": Unknown("it has no socket")}, FAIL, "it has no socket"),
        ({"kubelet_run": Known(KubeletRun("r", 1, listening=False))}, FAIL, "is not running"),
    ],
    "kubelet-version": [
        ({"kubelet_version": GONE}, SKIP, GONE.reason),
        ({"kubelet_version": Known("Kubernetes v1.23.17")}, WARN, "older than v1.24"),
        ({"kubelet_version": Known("?")}, SKIP, "not a version: ?"),
    ],
    "node-name": [
        (identity(certificate=None), SKIP, "nothing here tells the kubelet's node name"),
        (settings(node_name="edge-08"), FAIL, "node is edge-08 (--hostname-override)"),
        ({"node_name": "localhost"}, FAIL, "node is edge-07 (its certificate), ours is localhost"),
    ],
    "runtime": [({"runtime": GONE}, FAIL, GONE.reason)],
    "runtime-endpoint": [
        ({"kubelet": GONE}, SKIP, "name no runtime endpoint"),
        (settings(runtime_endpoint=""), SKIP, "name no runtime endpoint"),
        ({"runtime_endpoint": ""}, SKIP, "no container runtime was found"),
        (settings(runtime_endpoint="unix:///run/o.sock"), FAIL, "the kubelet uses unix:///run/o"),
    ],
    "identity": [({"identity": Unknown("/k.conf: expected a CA")}, FAIL, "/k.conf")],
    "identity-expiry": [
        ({"identity": GONE}, SKIP, "the kubeconfig cannot be used"),
        (identity(certificate=None), SKIP, "do not tell"),
        (certificate(-DAY, -3600), FAIL, "has expired 60m ago"),
        (certificate(DAY, 2 * DAY), FAIL, "valid only from 24h from now"),
        (certificate(-360 * DAY, 5 * DAY), WARN, "expires in 5d"),
        (identity(certificate=None, token_expires=NOW + 60), WARN, "the token expires in 60s"),
        (identity(certificate=None, token_expires=NOW - 60), FAIL, "the token has expired"),
        (identity(certificate=None, token_expires=NOW + 7200), PASS, "valid for 120m"),
    ],
    "authority": [
        ({"identity": GONE}, SKIP, "the kubeconfig cannot be used"),
        (identity(authorities=(Validity("CN=ca", 0, NOW - 1),)), FAIL, "has expired 1s ago"),
        (identity(authorities=(Validity("CN=ca", 0, NOW + DAY),)), WARN, "expires in 24h"),
    ],
    "api": [
        ({"probes": GONE}, WARN, GONE.reason),
        (probe(ProbeOutcome.FAILED, "timeout"), WARN, "does not answer (timeout)"),
        (probe(ProbeOutcome.SERVER_ERROR, "HTTP 500"), WARN, "does not answer (HTTP 500)"),
        (probe(ProbeOutcome.DENIED, "HTTP 403"), FAIL, "refuses this node's identity (HTTP 403)"),
        (probe(ProbeOutcome.FAILED, "certificate not trusted"), FAIL, "did not issue"),
    ],
    "clock": [
        ({"api": GONE}, SKIP, GONE.reason),
        (api(offset=10.0), WARN, "this node's clock is 10s behind the API server's"),
        (api(offset=-7200.0), FAIL, "this node's clock is 120m ahead of the API server's"),
        ({"api": Known(ApiView(GONE, GONE, GONE))}, SKIP, GONE.reason),
    ],
    "clock-sync": [
        ({"is_synchronized": GONE}, SKIP, GONE.reason),
        ({"is_synchronized": Known(value=False)}, WARN, "nobody synchronizes"),
    ],
    "store-folder": [
        ({"store_place": GONE}, FAIL, GONE.reason),
        ({"store_safety": "/x is writable by others"}, FAIL, "/x is writable by others"),
        (place("store_place", exists=False), WARN, "nothing was stored yet"),
        (place("store_place", kind="tmpfs"), FAIL, "a reboot empties it"),
        (place("store_place", is_read_only=True), FAIL, "mounted read-only"),
        (place("store_place", kind="nfs4"), WARN, "without its network"),
        (place("store_place", kind="overlay"), WARN, "may not outlive a reboot"),
    ],
    "disk-space": [
        ({"store_place": GONE}, SKIP, GONE.reason),
        (place("store_place", free_bytes=100 << 20), WARN, "only 100.0 MiB free"),
        (place("store_place", free_bytes=1 << 20), FAIL, "only 1.0 MiB free"),
        (place("store_place", free_inodes=1500), WARN, "1500 inodes"),
        (place("manifest_place", free_inodes=7), FAIL, "7 inodes"),
        (
            place("store_place", free_inodes=0, total_inodes=0),
            PASS,
            "free at /etc/kubernetes/checkpointer",
        ),
    ],
    "agent": [
        ({"lock": Unknown("cannot open it")}, SKIP, "cannot open it"),
        ({"lock": Known(AgentLock(is_held=False))}, FAIL, "no agent runs"),
        ({"lock": Known(AgentLock(True, "cp.service"))}, PASS, "it runs, as cp.service"),
    ],
    "contact": [
        ({"agent": GONE, "lock": Known(AgentLock(is_held=False))}, SKIP, GONE.reason),
        ({"agent": GONE, "lock": GONE}, SKIP, GONE.reason),
        ({"agent": GONE}, WARN, "holds /run/pod-checkpointer/lock, but cannot be asked"),
        (
            {"agent": Known(AgentSilent("no answer"))},
            FAIL,
            "an agent runs, but does not answer: no answer",
        ),
        ({"agent": Known(AgentSays("lost", "timeout"))}, WARN, "contact is lost (timeout)"),
        ({"agent": Known(AgentSays("denied", "HTTP 403"))}, FAIL, "contact is denied"),
        ({"agent": Known(AgentSays("reachable", "x", ("no room",)))}, WARN, "says: no room"),
    ],
    "agent-at-boot": [
        ({"static_pods": GONE}, SKIP, GONE.reason),
        (files(), FAIL, "without the API there would be no agent"),
        ({**files(), "lock": Known(AgentLock(is_held=False))}, FAIL, "no agent runs, and nothing"),
        ({**files(), "lock": GONE}, WARN, "nothing in the manifest folder"),
        ({**files(), "lock": Known(AgentLock(is_held=True))}, WARN, "it cannot be told"),
        ({**files(), "lock": Known(AgentLock(True, "cp.service"))}, PASS, "as cp.service"),
        (files(replace(AGENT, host_paths=(str(MANIFESTS),))), FAIL, "there would be no agent"),
        (files(replace(AGENT, host_paths=("/etc/kubernetes",))), PASS, "the kubelet starts it"),
        (files(replace(AGENT, problem="refused")), FAIL, "there would be no agent"),
    ],
    "checkpoints": [
        ({"examined": GONE}, FAIL, GONE.reason),
        ({"examined": Known(())}, FAIL, "no checkpoint is stored"),
        ({"store_problems": ("/s/a/b: nobody's",)}, WARN, "/s/a/b: nobody's"),
        (stored(3, problems=("revision 4 is skipped: x",)), WARN, "revision 4 is skipped"),
        (stored(problems=("revision 4 is skipped: x",)), FAIL, "revision 4 is skipped"),
        (stored(), FAIL, "it has no revision"),
    ],
    "acceptance": [
        ({"examined": Known(())}, SKIP, "no checkpoint is stored"),
        (examined(refusals=Known(("spec: no",))), FAIL, "the kubelet would refuse it: spec: no"),
        (examined(refusals=GONE), FAIL, GONE.reason),
    ],
    "images": [
        ({"examined": Known(())}, SKIP, "no checkpoint is stored"),
        (examined(absent=Known(frozenset({"web:1"}))), FAIL, "image web:1 is not on this node"),
        (examined(absent=GONE), SKIP, GONE.reason),
    ],
    "pull-records": [
        ({"examined": Known(())}, SKIP, "no checkpoint is stored"),
        (examined(restricted=Known(frozenset({"w:1"}))), FAIL, "w:1 is here, but the kubelet"),
        (examined(restricted=GONE), SKIP, GONE.reason),
    ],
    "tokens": [
        ({"examined": Known(())}, SKIP, "no checkpoint is stored"),
        (examined(token_expires=Known(None)), PASS, "no checkpoint holds a token"),
        (examined(token_expires=Known(NOW - 60)), FAIL, "has expired 60s ago"),
        (examined(token_expires=Known(NOW + 3600)), WARN, "expires in 60m"),
        (examined(token_expires=GONE), WARN, GONE.reason),
    ],
    "crashes": [
        ({"examined": Known(())}, SKIP, "no checkpoint is stored"),
        (stored(4, 3, failed=(4,)), WARN, "revision 4 was activated and kept crashing"),
        (stored(4, failed=(4,)), FAIL, "revision 4 was activated and kept crashing"),
        (stored(4, failed=(1,)), PASS, "no stored revision is known to crash"),
    ],
    "parents": [
        ({"examined": Known(())}, SKIP, "no checkpoint is stored"),
        (way(refused="uid-9"), FAIL, "gets no other try until it changes (pod uid-9)"),
        (way(failures=2), WARN, "have failed, 2 in a row"),
        (way(to="uid-9"), PASS, "none has failed"),
    ],
    "holds": [
        ({"examined": Known(())}, SKIP, "no checkpoint is stored"),
        (held("released"), FAIL, "held released by hand, root: it is not activated, not in an"),
        (held("active", until=NOW + DAY), WARN, "held active by hand, root, for 24h more: "),
        (held("released", until=NOW), PASS, "no checkpoint is held by hand"),
    ],
    "selected-pods": [
        ({"api": GONE}, SKIP, GONE.reason),
        (api(pods=()), WARN, "no pod of this node is selected"),
        (api(pods=(replace(POD, is_ready=False),)), WARN, "not Ready"),
        (
            api(pods=(replace(POD, refusals=(Finding("spec.x", "no", "yes"),)),)),
            FAIL,
            "not checkpointable: spec.x: no",
        ),
    ],
    "namespaces": [
        ({"api": GONE}, SKIP, GONE.reason),
        (api(pods=(replace(POD, exclusion="it is in default"),)), WARN, "but it is in default"),
    ],
    "freshness": [
        ({"api": GONE}, SKIP, "what the parents are now is not known"),
        ({"examined": GONE}, SKIP, "what the parents are now is not known"),
        ({"examined": Known(())}, FAIL, "is Ready and has no checkpoint"),
        (api(pods=(replace(POD, digest="d4"),)), WARN, "has changed since its newest revision"),
        (api(pods=(replace(POD, digest=None),)), PASS, "what their parents are now"),
        (api(pods=()), WARN, "no pod of it is on this node any more"),
    ],
    "static-pods": [
        ({"static_pods": GONE}, SKIP, GONE.reason),
        (files(web("a.yaml~", problem="no pod")), WARN, "a.yaml~: the kubelet refuses it: no pod"),
    ],
    "duplicates": [
        ({"static_pods": GONE}, SKIP, GONE.reason),
        (files(web("a", name="x"), web("b", name="x")), FAIL, "a and b are all the pod"),
        (files(web("a", problem="bad"), web("b", problem="bad")), PASS, "no pod is there twice"),
    ],
    "conflicts": [
        ({"static_pods": GONE}, SKIP, "cannot be read"),
        (files(web("w.yaml", name="web")), FAIL, "w.yaml is a static pod of the same name"),
        (files(web("o", name="o", host_ports=(80, 8080))), FAIL, "takes its port 8080"),
        (files(web("o", name="web", is_ours=True, host_ports=(8080,))), PASS, "nobody else's"),
        (files(web("o", name="web", problem="refused")), PASS, "nobody else's"),
    ],
    "other-checkpointers": [
        ({"containers": GONE, "static_pods": GONE}, PASS, "no sign"),
        ({"leftovers": (Path("/etc/kubernetes/inactive-manifests"),)}, FAIL, "inactive-manifests"),
        (files(web("kube-system-x.json", name="x", is_marked=True)), FAIL, "kube-system-x.json"),
        (files(web("p.json", images=("quay.io/coreos/pod-checkpointer:1",))), FAIL, "p.json"),
        (
            {
                "containers": Known(
                    Runtime((), (replace(CONTAINER, namespace="openshift-pod-checkpointer"),))
                )
            },
            FAIL,
            "its pod openshift-pod-checkpointer/web-abcde",
        ),
        (files(web("p.json", images=("registry.example/pod-checkpointer:1",))), PASS, "no sign"),
    ],
}


def test_every_check_passes_on_a_healthy_node() -> None:
    """And says at least one thing; nothing is skipped there."""
    results = check(healthy())
    assert [result for result in results if result.outcome is not PASS] == []
    assert {result.check for result in results} == set(CHECKS)
    assert worst(results) is PASS


def test_every_check_is_tried_on_a_sick_node() -> None:
    """A check without a case here would be one that nobody has seen fail."""
    assert set(CASES) == set(CHECKS)
    assert {name for name, cases in CASES.items() if {c[1] for c in cases} & {WARN, FAIL}} == set(
        CHECKS
    )


@pytest.mark.parametrize(
    ("name", "changes", "outcome", "what"),
    [(name, *case) for name, cases in CASES.items() for case in cases],
)
def test_what_a_check_says(name: str, changes: dict[str, Any], outcome: Outcome, what: str) -> None:
    """The outcome, the sentence, and a cure exactly where something is wrong."""
    answers = ask(name, **changes)
    matching = [answer for answer in answers if what in answer.what]
    assert [answer.outcome for answer in matching] == [outcome], answers
    assert worst_of(answers) is outcome or outcome in (PASS, SKIP)
    assert all(bool(one.cure) == (one.outcome in (WARN, FAIL)) for one in answers)


def worst_of(answers: list[Any]) -> Outcome:
    order = [PASS, SKIP, WARN, FAIL]
    return max((answer.outcome for answer in answers), key=order.index)


def test_of_several_authorities_one_that_is_valid_will_do() -> None:
    """As while a cluster's authority is being replaced."""
    old = Validity("CN=old", 0, NOW - 1)
    answers = ask("authority", **identity(authorities=(old, *IDENTITY.authorities)))
    assert [answer.outcome for answer in answers] == [PASS]


def test_other_workloads_checkpoints_do_not_hide_one_that_is_missing() -> None:
    """Freshness is told of each workload by itself."""
    other = replace(POD, workload=Workload("kube-system", "DaemonSet", "dns"), name="dns-1")
    answers = ask("freshness", **api(pods=(POD, other)))
    assert [answer.outcome for answer in answers] == [FAIL]
    assert "kube-system/daemonset/dns" in answers[0].what
