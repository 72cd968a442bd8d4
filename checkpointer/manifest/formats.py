"""The string formats of the Kubernetes API, as predicates.

Ports of k8s.io/apimachinery/pkg/util/validation/validation.go. All are ASCII formats, so that a
Python length is a Go length once a pattern has matched.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_SEARCH = re.compile(r"[a-z0-9_](?:[-a-z0-9_]*[a-z0-9_])?(?:\.[a-z0-9_](?:[-a-z0-9_]*[a-z0-9_])?)*")
_QUALIFIED_NAME = re.compile(r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_RELAXED_ENV_NAME = re.compile(r"[ -<>-~]+")
_PORT_NAME = re.compile(r"[a-z0-9-]+")
_HEADER_NAME = re.compile(r"[-A-Za-z0-9]+")
_SYSCTL = re.compile(r"(?:[a-z0-9](?:[-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9](?:[-_a-z0-9]*[a-z0-9])?")

MAX_ID = (1 << 31) - 1
"""Greatest user and group ID that the API takes (validation.go: IsValidUserID)."""


@lru_cache(maxsize=4096)
def is_label(text: str) -> bool:
    """Tell whether the text is a DNS-1123 label: at most 63 characters."""
    return len(text) <= 63 and _LABEL.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def is_subdomain(text: str) -> bool:
    """Tell whether the text is a DNS-1123 subdomain: at most 253 characters."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def is_search_domain(text: str) -> bool:
    """Tell whether the text is a DNS search domain (underscores allowed since 1.34)."""
    return text == "." or (
        len(text) <= 254 and _SEARCH.fullmatch(text.removesuffix(".")) is not None
    )


@lru_cache(maxsize=4096)
def is_qualified_name(text: str) -> bool:
    """Tell whether the text can be a label's or an annotation's key."""
    prefix, slash, name = text.rpartition("/")
    if slash and not is_subdomain(prefix):
        return False
    return len(name) <= 63 and _QUALIFIED_NAME.fullmatch(name) is not None


@lru_cache(maxsize=4096)
def is_label_value(text: str) -> bool:
    """Tell whether the text can be a label's value."""
    return not text or (len(text) <= 63 and _QUALIFIED_NAME.fullmatch(text) is not None)


def is_env_name(text: str) -> bool:
    """Tell whether every kubelet takes the text as the name of an environment variable."""
    return (
        _ENV_NAME.fullmatch(text) is not None
        and text not in (".", "..")
        and not text.startswith("..")
    )


def is_relaxed_env_name(text: str) -> bool:
    """Tell whether a kubelet with RelaxedEnvironmentVariableValidation (1.32) takes the name."""
    return _RELAXED_ENV_NAME.fullmatch(text) is not None


def is_port_name(text: str) -> bool:
    """Tell whether the text is an IANA service name, as ports have them."""
    return (
        len(text) <= 15
        and _PORT_NAME.fullmatch(text) is not None
        and any("a" <= character <= "z" for character in text)
        and "--" not in text
        and not text.startswith("-")
        and not text.endswith("-")
    )


def is_port_number(number: int) -> bool:
    """Tell whether the number is one of a TCP, UDP or SCTP port."""
    return 1 <= number <= 65535


def is_header_name(text: str) -> bool:
    """Tell whether the text is the name of an HTTP header."""
    return _HEADER_NAME.fullmatch(text) is not None


def is_sysctl(text: str) -> bool:
    """Tell whether the text is the name of a sysctl, with dots or slashes."""
    return len(text) <= 253 and _SYSCTL.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Tell whether the text is an IP address without a zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def climbs(path: str) -> bool:
    """Tell whether a path has a `..` element (validatePathNoBacksteps)."""
    return ".." in path.split("/")
