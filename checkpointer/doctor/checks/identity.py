"""Who are we to the API, for how long, does it answer, and do the clocks agree?"""

from __future__ import annotations

from collections.abc import Iterator

from checkpointer.core.contact import ProbeOutcome
from checkpointer.core.facts import Unknown
from checkpointer.doctor.facts import Facts
from checkpointer.doctor.result import Answer, failed, passed, skipped, warned
from checkpointer.node.certificates import NodeIdentity
from checkpointer.report.spans import DAY, age

LEAST_LIFE = 0.1
"""Share of a certificate's life: the kubelet renews its own after 70 to 90 % of it
(client-go, util/certificate: nextRotationDeadline)."""

AUTHORITY_SECONDS = 90 * DAY
TOKEN_SECONDS = 600.0
CLOCK_WARN_SECONDS = 5.0
CLOCK_FAIL_SECONDS = 60.0

_ROTATION = (
    "see the kubelet's log on certificate rotation (rotateCertificates: true), and that "
    "`kubectl get csr` shows nothing pending"
)


def identity(facts: Facts) -> Iterator[Answer]:
    """The kubeconfig can be used."""
    if isinstance(facts.identity, Unknown):
        yield failed(facts.identity.reason, "set kubeconfig to one that this node can use")
        return
    found = facts.identity.value
    yield passed(f"{_name(found)} at {found.server} ({facts.config.kubeconfig})")


def expiry(facts: Facts) -> Iterator[Answer]:
    """The client certificate or token is valid, and for a while yet."""
    if isinstance(facts.identity, Unknown):
        yield skipped("the kubeconfig cannot be used")
        return
    found = facts.identity.value
    if found.certificate is not None:
        yield _certificate(found, facts.now)
    if found.token_expires is not None:
        yield _token(found.token_expires - facts.now)
    if found.certificate is None and found.token_expires is None:
        yield skipped("the credentials do not tell until when they are valid")


def authority(facts: Facts) -> Iterator[Answer]:
    """The authority that the API's certificate is verified by is valid."""
    if isinstance(facts.identity, Unknown):
        yield skipped("the kubeconfig cannot be used")
        return
    last = max(facts.identity.value.authorities, key=lambda one: one.ends)
    left, life = last.ends - facts.now, last.ends - last.begins
    cure = "renew the cluster's authority, and the kubeconfigs that carry it"
    if left <= 0:
        yield failed(f"the API's authority has expired {age(-left)} ago", cure)
    elif left < min(AUTHORITY_SECONDS, LEAST_LIFE * life):
        yield warned(f"the API's authority expires in {age(left)}", cure)
    else:
        yield passed(f"the API's authority is valid for {age(left)}")


def api(facts: Facts) -> Iterator[Answer]:
    """The API answers to this identity."""
    if isinstance(facts.probes, Unknown):
        yield warned(facts.probes.reason, "see that the API's endpoints can be reached from here")
        return
    for endpoint, result in facts.probes.value.items():
        if result.outcome is ProbeOutcome.ANSWERED:
            yield passed(f"{endpoint} answers")
        elif result.outcome is ProbeOutcome.DENIED:
            yield failed(
                f"{endpoint} is there and refuses this node's identity ({result.reason}): nothing "
                "is activated or removed while it does",
                "see that the node's certificate was issued by this cluster's authority",
            )
        elif result.reason == "certificate not trusted":
            yield failed(
                f"{endpoint} shows a certificate that the kubeconfig's authority did not issue",
                "correct endpoints or the kubeconfig; or something else listens there",
            )
        else:
            yield warned(
                f"{endpoint} does not answer ({result.reason}): what only the API knows was not "
                "checked",
                "if the API is up, see that this node can reach it",
            )


def clock(facts: Facts) -> Iterator[Answer]:
    """Our clock agrees with the API's: certificates and tokens go by it."""
    if isinstance(facts.api, Unknown):
        yield skipped(facts.api.reason)
        return
    offset = facts.api.value.clock_offset_seconds
    if isinstance(offset, Unknown):
        yield skipped(offset.reason)
        return
    seconds = offset.value
    what = f"this node's clock is {age(abs(seconds))} {'behind' if seconds > 0 else 'ahead of'}"
    if abs(seconds) < CLOCK_WARN_SECONDS:
        yield passed("this node's clock agrees with the API server's")
    elif abs(seconds) < CLOCK_FAIL_SECONDS:
        yield warned(f"{what} the API server's", "synchronize both clocks")
    else:
        yield failed(
            f"{what} the API server's: certificates and tokens will be refused",
            "synchronize both clocks before the reboot; the hardware's, too (hwclock --systohc)",
        )


def clock_sync(facts: Facts) -> Iterator[Answer]:
    """Somebody keeps our clock right."""
    if isinstance(facts.is_synchronized, Unknown):
        yield skipped(facts.is_synchronized.reason)
    elif not facts.is_synchronized.value:
        yield warned(
            "the kernel says that nobody synchronizes this node's clock",
            "run an NTP client: chrony or systemd-timesyncd",
        )
    else:
        yield passed("the kernel says that the clock is synchronized")


def _certificate(found: NodeIdentity, now: float) -> Answer:
    certificate = found.certificate
    assert certificate is not None  # noqa: S101 - for the type checker
    left, life = certificate.ends - now, certificate.ends - certificate.begins
    if now < certificate.begins:
        return failed(
            f"the client certificate is valid only from {age(certificate.begins - now)} from now",
            "set this node's clock",
        )
    if left <= 0:
        return failed(f"the client certificate has expired {age(-left)} ago", _ROTATION)
    if left < LEAST_LIFE * life:
        return warned(f"the client certificate expires in {age(left)}", _ROTATION)
    return passed(f"the client certificate is valid for {age(left)}")


def _token(left: float) -> Answer:
    cure = "let somebody renew the token's file, or use the kubelet's kubeconfig"
    if left <= 0:
        return failed(f"the token has expired {age(-left)} ago", cure)
    if left < TOKEN_SECONDS:
        return warned(f"the token expires in {age(left)}", cure)
    return passed(f"the token is valid for {age(left)}")


def _name(found: NodeIdentity) -> str:
    if found.certificate is not None:
        return found.certificate.subject
    return "a token" if found.has_token else "credentials of a program"
