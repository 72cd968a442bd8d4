"""The lease in the API: taken before a hand-over, given back after it, never at rest."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from checkpointer.core.lease import (
    FAILED_SECONDS,
    FAILING_SECONDS,
    RENEW_SECONDS,
    TRY_AGAIN_SECONDS,
    Claim,
)
from checkpointer.core.moment import Moment
from checkpointer.errors import ApiError
from checkpointer.node.lease import NAME, HandOverLease

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"


class Api:
    """Keeps one lease as etcd does; `error` is what every request fails with."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.error: ApiError | None = None
        self.asked: list[str] = []
        self.meanwhile: Any = lambda: None
        """Happens after an object was read."""

    def get(self, path: str) -> Mapping[str, Any]:
        self._note("GET", path, f"{LEASES}/{NAME}")
        if self.lease is None:
            raise ApiError("no such lease", 404, says_not_found=True)
        found = copy.deepcopy(self.lease)
        self.meanwhile()
        return found

    def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self._note("POST", path, LEASES)
        if self.lease is not None:
            raise ApiError("it exists", 409)
        return self._store(body, 1)

    def put(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self._note("PUT", path, f"{LEASES}/{NAME}")
        assert self.lease is not None
        version = self.lease["metadata"]["resourceVersion"]
        if body["metadata"]["resourceVersion"] != version:
            raise ApiError("it was changed", 409)
        return self._store(body, int(version) + 1)

    def _note(self, verb: str, path: str, expected: str) -> None:
        self.asked.append(verb)
        assert path == expected
        if self.error is not None:
            raise self.error

    def _store(self, body: Mapping[str, Any], version: int) -> Mapping[str, Any]:
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(version)}}
        return self.lease


@pytest.fixture
def api() -> Api:
    return Api()


def lease_of(api: Api, name: str) -> HandOverLease:
    return HandOverLease(api, "kube-system", name, 60.0)


def at(seconds: float) -> Moment:
    return Moment("boot", seconds, 1_700_000_000.0 + seconds)


def test_a_lease_is_created_and_taken(api: Api) -> None:
    """As client-go writes it, so that kubectl and others can read it."""
    lease = lease_of(api, "node-1")
    assert lease.claim(100.0) is Claim.OPEN
    assert not lease.is_held
    assert lease.take(at(100.0))
    assert lease.claim(100.0) is Claim.OURS
    assert lease.is_held
    assert api.lease is not None
    assert api.lease["spec"] == {
        "holderIdentity": "node-1",
        "leaseDurationSeconds": 60,
        "acquireTime": "2023-11-14T22:15:00.000000Z",
        "renewTime": "2023-11-14T22:15:00.000000Z",
        "leaseTransitions": 1,
    }


def test_one_master_waits_for_another_until_it_gives_the_lease_back(api: Api) -> None:
    """Its clock may say what it likes."""
    first, second = lease_of(api, "node-1"), lease_of(api, "node-2")
    first.take(at(100.0))
    second.take(at(9000.0))
    assert second.claim(9000.0) is Claim.OPEN
    first.give_back(at(105.0))
    assert not first.is_held
    assert not second.take(at(9000.9))
    second.take(at(9001.0))
    assert second.claim(9001.0) is Claim.OURS


def test_a_crashed_holder_is_waited_for_a_minute_at_most(api: Api) -> None:
    """Counted from the first look at what it left."""
    lease_of(api, "node-1").take(at(100.0))
    second = lease_of(api, "node-2")
    for now in (500.0, 530.0, 559.0):
        second.take(at(now))
        assert second.claim(now) is Claim.OPEN
    second.take(at(560.0))
    assert second.claim(560.0) is Claim.OURS


def test_a_holder_renews_its_lease_while_its_hand_over_goes_on(api: Api) -> None:
    """Whoever waits counts anew from each renewal; it is no new holder."""
    first, second = lease_of(api, "node-1"), lease_of(api, "node-2")
    first.take(at(100.0))
    assert api.lease is not None
    for now in range(101, 301):
        first.renew(at(float(now)))
        second.take(at(float(now)))
        assert second.claim(float(now)) is Claim.OPEN
    assert first.is_held
    spec = api.lease["spec"]
    assert (spec["acquireTime"], spec["leaseTransitions"]) == ("2023-11-14T22:15:00.000000Z", 1)
    assert spec["renewTime"] == "2023-11-14T22:18:20.000000Z"
    assert api.asked.count("PUT") == 200 / RENEW_SECONDS
    second.take(at(301.0 + 60.0))
    assert second.claim(361.0) is Claim.OURS


def test_a_lease_that_another_has_taken_is_not_renewed(api: Api) -> None:
    """The holder's API server was away for longer than its lease."""
    first, second = lease_of(api, "node-1"), lease_of(api, "node-2")
    first.renew(at(50.0))
    assert api.asked == []
    first.take(at(100.0))
    second.take(at(100.0))
    second.take(at(160.0))
    first.renew(at(161.0))
    assert not first.is_held
    assert api.lease is not None
    assert api.lease["spec"]["holderIdentity"] == "node-2"


def test_a_renewal_that_fails_is_tried_again(api: Api) -> None:
    """The lease is ours until another takes it."""
    lease = lease_of(api, "node-1")
    lease.take(at(100.0))
    api.error = ApiError("GET: ConnectionRefusedError")
    lease.renew(at(120.0))
    assert lease.is_held
    api.error = None
    lease.renew(at(140.0))
    assert api.lease is not None
    assert api.lease["spec"]["renewTime"] == "2023-11-14T22:15:40.000000Z"


def test_an_agent_that_starts_anew_goes_on_with_its_own_lease(api: Api) -> None:
    """It took it before it died."""
    lease_of(api, "node-1").take(at(100.0))
    again = lease_of(api, "node-1")
    again.take(at(101.0))
    assert again.claim(101.0) is Claim.OURS


def test_of_two_that_take_it_at_once_one_gets_it(api: Api) -> None:
    """The API refuses a write over what was not read; that is no fault of the lease."""
    first, second = lease_of(api, "node-1"), lease_of(api, "node-2")
    first.take(at(100.0))
    first.give_back(at(100.0))

    def meanwhile() -> None:
        api.meanwhile = lambda: None
        first.take(at(102.0))

    api.meanwhile = meanwhile
    second.take(at(102.0))
    assert [lease.claim(102.0) for lease in (first, second)] == [Claim.OURS, Claim.OPEN]
    assert second.claim(102.0 + FAILING_SECONDS) is Claim.OPEN


def test_what_another_has_taken_meanwhile_is_not_given_back(api: Api) -> None:
    """The holder was away for longer than its lease."""
    first, second = lease_of(api, "node-1"), lease_of(api, "node-2")
    first.take(at(100.0))
    second.take(at(100.0))
    second.take(at(160.0))
    first.give_back(at(161.0))
    assert api.lease is not None
    assert api.lease["spec"]["holderIdentity"] == "node-2"


def test_a_lease_that_cannot_be_given_back_ends_by_itself(api: Api) -> None:
    """The API server that took it may be gone."""
    lease = lease_of(api, "node-1")
    lease.take(at(100.0))
    api.error = ApiError("GET: ConnectionRefusedError")
    lease.give_back(at(105.0))
    assert not lease.is_held


@pytest.mark.parametrize("status", [403, 404, 500, None])
def test_a_lease_that_may_not_be_used_leaves_the_time_slots(
    api: Api, status: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """After a minute, and said once: an API server that starts refuses what it allows later."""
    api.error = ApiError(f"GET: HTTP {status}", status)
    lease = lease_of(api, "node-1")
    lease.take(at(100.0))
    assert lease.claim(100.0) is Claim.OPEN
    lease.take(at(130.0))
    assert lease.claim(100.0 + FAILING_SECONDS) is Claim.OPEN
    lease.take(at(100.0 + FAILING_SECONDS))
    assert lease.claim(100.0 + FAILING_SECONDS) is Claim.UNUSED
    assert len(caplog.messages) == 1
    assert f"kube-system/{NAME}" in caplog.text
    api.error = None
    again = 100.0 + FAILING_SECONDS + FAILED_SECONDS
    lease.take(at(again))
    assert lease.claim(again) is Claim.OURS


def test_a_lease_that_was_refused_is_tried_until_it_can_be_taken(api: Api) -> None:
    """Though nothing waits for it meanwhile; it is not kept from the others."""
    lease = lease_of(api, "node-1")
    assert lease.try_again(at(90.0)) is None
    api.error = ApiError("GET: HTTP 403", 403)
    lease.take(at(100.0))
    assert lease.try_again(at(101.0)) == TRY_AGAIN_SECONDS - 1.0
    assert len(api.asked) == 1
    api.error = None
    assert lease.try_again(at(110.0)) is None
    assert not lease.is_held
    assert api.lease is not None
    assert "holderIdentity" not in api.lease["spec"]


def test_without_a_namespace_nothing_is_asked(api: Api) -> None:
    """The time slots need nothing from the API."""
    assert HandOverLease(api, "", "node-1", 60.0).claim(100.0) is Claim.UNUSED
    assert api.asked == []


@pytest.mark.parametrize(("configured", "written"), [(20.0, 20), (300.0, 60), (0.1, 1)])
def test_a_lease_covers_a_hand_over_but_no_more_than_a_minute(
    api: Api, configured: float, written: int
) -> None:
    """A whole number of seconds, at least one."""
    HandOverLease(api, "kube-system", "node-1", configured).take(at(0.0))
    assert api.lease is not None
    assert api.lease["spec"]["leaseDurationSeconds"] == written


@pytest.mark.parametrize(
    "spec", [None, {}, {"leaseDurationSeconds": None, "leaseTransitions": None}]
)
def test_a_lease_that_says_nothing_is_free(api: Api, spec: Any) -> None:
    """Somebody made it by hand."""
    api.lease = {"metadata": {"name": NAME, "resourceVersion": "7"}, "spec": spec}
    lease = lease_of(api, "node-1")
    lease.take(at(100.0))
    assert lease.claim(100.0) is Claim.OURS
