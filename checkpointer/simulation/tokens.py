"""Service account tokens: JWTs in form, with the claims of real ones, signed by nobody."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

from checkpointer.simulation.authorizer import User
from checkpointer.simulation.cluster import Cluster, Object
from checkpointer.simulation.planted import planted

_AUDIENCE = "https://kubernetes.default.svc"


def issue(
    namespace: str,
    account: str,
    bound: Object,
    *,
    audiences: Sequence[str] = (),
    seconds: int = 3600,
) -> str:
    """Return a token of the service account, bound to the object (`name` and `uid`)."""
    now = int(time.time())
    # --service-account-extend-token-expiration: 3607 s asked for at the pod's own audience is
    # the injected volume, and gets a year.
    lifetime = 31_536_000 if seconds == 3607 and not audiences else seconds
    claims = {
        "aud": list(audiences) or [_AUDIENCE],
        "exp": now + lifetime,
        "iat": now,
        "iss": _AUDIENCE,
        "jti": str(uuid.uuid4()),
        "kubernetes.io": {
            "namespace": namespace,
            "pod": {"name": bound.get("name", ""), "uid": bound.get("uid", "")},
            "serviceaccount": {"name": account},
        },
        "nbf": now,
        "sub": f"system:serviceaccount:{namespace}:{account}",
    }
    header = {"alg": "none", "kid": "simulated"}
    signature = planted(str(uuid.uuid4()))
    return ".".join((_part(header), _part(claims), _encode(signature.encode())))


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims, or an empty dict when it is not such a token."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def user_of(cluster: Cluster, token: str) -> User | None:
    """Return whose token it is, if it has not expired and its pod still exists (7.1)."""
    claims = claims_of(token)
    if not claims or float(claims.get("exp", 0)) < time.time():
        return None
    bound = claims["kubernetes.io"]
    pod = cluster.get("pods", bound["namespace"], bound["pod"]["name"])
    if pod is None or pod["metadata"]["uid"] != bound["pod"]["uid"]:
        return None
    return User(claims["sub"], ("system:serviceaccounts", "system:authenticated"))


def _part(value: object) -> str:
    return _encode(json.dumps(value, separators=(",", ":")).encode())


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
