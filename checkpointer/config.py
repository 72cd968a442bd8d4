"""Settings: one YAML file, the environment over it, flags over both; checked as a whole.

The dataclasses below are the schema: a field `grace_seconds` is the key `grace` and takes a
duration like `30s`, `1m30s`, `200ms` or a number of seconds. `CHECKPOINTER_TIMING_GRACE=10s` in
the environment and `--set timing.grace=10s` on the command line mean the same key. A key without a
value (null) means its default.
"""

from __future__ import annotations

import functools
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from checkpointer.core.rules import ContactRules, Rules
from checkpointer.errors import CheckpointerError, printable
from checkpointer.shallow_yaml import loader
from checkpointer.values import dataclass, replace

API_VERSION = "checkpointer.alpha.coreos.com/v1alpha1"
KIND = "CheckpointerConfiguration"
ENVIRONMENT_PREFIX = "CHECKPOINTER_"


class ConfigError(CheckpointerError):
    """The configuration is wrong; the message has one line for each key at fault."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(map(printable, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class SelectionConfig:
    """Which pods this node allows to be checkpointed."""

    annotation: bool = True
    """Whether the annotation `checkpointer.alpha.coreos.com/checkpoint: "true"` selects a pod."""
    label_selectors: tuple[dict[str, Any], ...] = ()
    """Label selectors (matchLabels, matchExpressions), any of which selects a pod."""
    namespaces: tuple[str, ...] = ("kube-system",)
    """The only namespaces whose pods may be selected: a static pod bypasses admission."""
    service_accounts: tuple[str, ...] = ()
    owner_kinds: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SnapshotConfig:
    """How checkpoints are made and kept."""

    keep_revisions: int = 4
    max_material_bytes: int = 64 * 1024 * 1024
    secret_environment_namespaces: tuple[str, ...] = ()
    """Namespaces whose pods may have secret values inlined into their environment."""
    keep_annotations: tuple[str, ...] = ()
    pin_images: bool = False
    """Whether a copy names the image digest that its parent ran."""
    requests: str = "keep"
    """`keep` or `none`: what becomes of the containers' resource requests."""


@dataclass(frozen=True, slots=True)
class HandOverConfig:
    """How copies give way to their parents."""

    lease_namespace: str = ""
    """Where the Lease lies by which masters take turns; empty: by time slots."""
    replace_parent: bool = False
    """Whether a parent deep in its backoff is deleted, for its DaemonSet to make it anew."""


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """What KUBERNETES_SERVICE_HOST and _PORT are in a copy; empty: the first endpoint."""

    host: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """How an endpoint is probed."""

    timeout_seconds: float = 2.0
    jitter_seconds: float = 2.0
    """Upper bound of the recovery jitter; each node draws its own."""


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What the agent writes to standard error."""

    level: str = "info"
    format: str = "text"


@dataclass(frozen=True, slots=True)
class HTTPConfig:
    """Where the agent serves metrics and its status."""

    address: str = "127.0.0.1:10278"
    """host:port, the host an IP address; empty: not at all."""
    allow_remote: bool = False
    """Whether `address` may be reached from other machines."""


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of one agent."""

    node_name: str = ""
    """The node's name in the API; empty: the host's name in lower case."""
    kubeconfig: Path = Path("/etc/kubernetes/kubelet.conf")
    endpoints: tuple[str, ...] = ()
    """API endpoints to probe (https://host:port); empty: the kubeconfig's server."""
    manifest_directory: Path = Path("/etc/kubernetes/manifests")
    store_directory: Path = Path("/etc/kubernetes/checkpointer")
    kubelet_directory: Path = Path("/var/lib/kubelet")
    runtime_endpoint: str = ""
    """The CRI socket; empty: the first well-known one that exists."""
    lock_file: Path = Path("/run/pod-checkpointer/lock")
    boot_id_file: Path = Path("/proc/sys/kernel/random/boot_id")
    pod_uid: str = ""
    """The UID of the pod that the agent runs in; empty: what its mount table tells."""
    selection: SelectionConfig = SelectionConfig()
    stage_zero: tuple[dict[str, Any], ...] | None = None
    """Rules that put a workload into stage 0: namespace, names, labels; none: the default."""
    contact: ContactRules = ContactRules()
    probe: ProbeConfig = ProbeConfig()
    timing: Rules = Rules()
    snapshot: SnapshotConfig = SnapshotConfig()
    hand_over: HandOverConfig = HandOverConfig()
    service: ServiceConfig = ServiceConfig()
    log: LogConfig = LogConfig()
    http: HTTPConfig = HTTPConfig()


_CHOICES = {
    "log.level": ("debug", "info", "warning", "error"),
    "log.format": ("text", "json"),
    "snapshot.requests": ("keep", "none"),
}
_NOT_SETTABLE = {"contact.jitter", "timing.replaceParents"}
_LONGEST_DURATION_SECONDS = 365 * 24 * 3600.0
_SOCKET_PATH_BYTES = 107
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")


def load(
    text: str | None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
    source: str = "configuration",
) -> Config:
    """Return the settings of a YAML text, with environment and `key.path: value` overrides.

    Raises ConfigError with every problem found, each naming its key.
    """
    problems: list[str] = []
    document = _parse(text, source, problems)
    for origin, key, value in _settings(environment or {}, overrides or {}, problems):
        _put(document, key.split("."), value, origin, problems)
    config = _build(Config, document, "", problems)
    if problems:
        raise ConfigError(problems)
    assert isinstance(config, Config)  # noqa: S101 - for the type checker
    problems.extend(_contradictions(config))
    if problems:
        raise ConfigError(problems)
    return config


def parse_duration(value: object) -> float:
    """Return the seconds of `30s`, `1m30s`, `200ms`, `2h` or of a plain number.

    Raises ValueError when it is neither, negative, or longer than a year. The form is that of
    Go's time.ParseDuration.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("not a duration")
    seconds = _seconds_of(value.strip()) if isinstance(value, str) else float(value)
    if not math.isfinite(seconds) or not 0.0 <= seconds <= _LONGEST_DURATION_SECONDS:
        raise ValueError("not a duration")
    return seconds


def _seconds_of(text: str) -> float:
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("not a duration")
    return sum(float(number) * units[unit] for number, unit in parts)


def _parse(text: str | None, source: str, problems: list[str]) -> dict[str, Any]:
    if text is None or not text.strip():
        return {}
    import yaml

    try:
        reader = loader()(text)
        node = reader.get_single_node()
        document = None if node is None else reader.construct_document(node)
        problems.extend(_duplicates(node))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problems.append(f"{source}{where}: not valid YAML")
        return {}
    except (ValueError, ArithmeticError, AttributeError, RecursionError):
        # What looks like a date or number and is none: PyYAML lets its own converters' errors out.
        problems.append(f"{source}: not valid YAML: a value is not what it looks like")
        return {}
    if document is None:
        return {}
    if not isinstance(document, dict):
        problems.append(f"{source}: expected a mapping of settings")
        return {}
    for key, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if document.pop(key, None) != expected:
            problems.append(f"{source}: {key}: expected {expected}")
    return document


def _duplicates(node: Any, prefix: str = "") -> list[str]:
    """Return a problem for each key that is there twice: YAML would silently take the last."""
    if not isinstance(getattr(node, "value", None), list):
        return []
    found: list[str] = []
    seen: set[str] = set()
    for entry in node.value:
        if not isinstance(entry, tuple):
            continue
        key, value = entry
        path = f"{prefix}{key.value}"
        if path in seen:
            found.append(f"{path}: set twice, again in line {key.start_mark.line + 1}")
        seen.add(path)
        if not prefix:  # our groups are one level deep
            found += _duplicates(value, f"{path}.")
    return found


def _settings(
    environment: Mapping[str, str], overrides: Mapping[str, str], problems: list[str]
) -> list[tuple[str, str, str]]:
    linked = tuple(_service_links(environment))
    ours = [
        (name, value)
        for name, value in sorted(environment.items())
        if name.startswith(ENVIRONMENT_PREFIX)
        and name != ENVIRONMENT_PREFIX + "CONFIG"
        and not name.startswith(linked)
    ]
    names = {environment_name(key): key for key in setting_keys()} if ours else {}
    found = []
    for name, value in ours:
        if name in names:
            found.append((name, names[name], value))
        else:
            problems.append(f"{name}: no such setting")
    return [*found, *((f"--set {key}", key, value) for key, value in overrides.items())]


def _service_links(environment: Mapping[str, str]) -> list[str]:
    """Return how the variables begin that the kubelet gives every pod for each Service.

    A Service called `checkpointer` or `checkpointer-metrics` must not configure the agent.
    """
    found = []
    for name, value in environment.items():
        if name.endswith("_PORT") and _SERVICE_LINK.match(value):
            found += [f"{name}", f"{name.removesuffix('_PORT')}_SERVICE_"]
    return found


def environment_name(key: str) -> str:
    """Return the environment variable that sets this key."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key.replace(".", "_"))
    return ENVIRONMENT_PREFIX + words.upper()


def _leaf_keys(schema: Any, prefix: str) -> list[str]:
    keys = []
    for item in fields(schema):
        kind = _type_of(schema, item.name)
        key = prefix + _key(item.name)
        keys.extend(_leaf_keys(kind, key + ".") if is_dataclass(kind) else [key])
    return keys


def _key(name: str) -> str:
    first, *rest = name.removesuffix("_seconds").split("_")
    return first + "".join(
        word.upper() if word in ("id", "uid") else word.capitalize() for word in rest
    )


def setting_keys() -> list[str]:
    """Return the full key of every setting, such as `timing.grace`."""
    return [key for key in _leaf_keys(Config, "") if key not in _NOT_SETTABLE]


def _put(
    document: dict[str, Any], path: list[str], value: str, origin: str, problems: list[str]
) -> None:
    for part in path[:-1]:
        if document.get(part) is None:
            document[part] = {}
        inner = document[part]
        if not isinstance(inner, dict):
            problems.append(f"{origin}: {part} is not a group of settings")
            return
        document = inner
    document[path[-1]] = value


def _type_of(schema: Any, name: str) -> Any:
    return _types_of(schema)[name]


@functools.cache
def _types_of(schema: Any) -> dict[str, Any]:
    return typing.get_type_hints(schema)


def _build(schema: Any, document: Any, prefix: str, problems: list[str]) -> Any:
    if not isinstance(document, dict):
        problems.append(f"{prefix.rstrip('.')}: expected a mapping of settings")
        return schema()
    known = {_key(item.name): item.name for item in fields(schema)}
    values = {}
    for key, value in document.items():
        path = f"{prefix}{key}"
        if key not in known or path in _NOT_SETTABLE:
            problems.append(f"{path}: no such setting")
            continue
        if value is None:
            continue
        name = known[key]
        kind = _type_of(schema, name)
        if is_dataclass(kind):
            values[name] = _build(kind, value, path + ".", problems)
            continue
        try:
            values[name] = _convert(kind, name, value)
        except (ValueError, TypeError) as error:
            problems.append(f"{path}: expected {error}, not {_shown(value)}")
        else:
            if path in _CHOICES and values[name] not in _CHOICES[path]:
                choices = " or ".join(_CHOICES[path])
                problems.append(f"{path}: expected {choices}, not {_shown(value)}")
    return replace(schema(), **values)


def _shown(value: Any) -> str:
    """Return a wrong value for a message; what is no plain setting may hold anything."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _convert(kind: Any, name: str, value: Any) -> Any:
    """Return the value as the field's type wants it; ValueError says what was expected."""
    if name.endswith("_seconds"):
        return _duration(value)
    if kind is bool:
        return _boolean(value)
    if kind is int:
        return _whole_number(value)
    if kind in (str, Path):
        if not isinstance(value, str):
            raise ValueError("a text (in quotes, if it looks like something else)")
        return _path(value) if kind is Path else value
    arguments = [a for a in typing.get_args(kind) if a is not types.NoneType]
    item = typing.get_args(arguments[0] if isinstance(kind, types.UnionType) else kind)[0]
    return _sequence(item, value)


def _duration(value: Any) -> float:
    try:
        return parse_duration(value)
    except ValueError:
        raise ValueError("a duration such as 30s, 1m30s or 200ms") from None


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise ValueError("true or false")


def _whole_number(value: Any) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,15}", str(value)):
        raise ValueError("a whole number")
    return int(value)


def _path(value: str) -> Path:
    path = Path(value)
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError("an absolute path")
    return path


def _sequence(item: Any, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str) and item is str:
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list):
        raise ValueError("a list")
    wanted = str if item is str else dict
    if not all(isinstance(entry, wanted) for entry in value):
        raise ValueError("a list of texts" if wanted is str else "a list of mappings")
    return tuple(value)


def _contradictions(config: Config) -> list[str]:
    problems = []
    for key, value in (
        ("contact.failures", config.contact.failures),
        ("contact.successes", config.contact.successes),
        ("timing.crashLimit", config.timing.crash_limit),
        ("snapshot.keepRevisions", config.snapshot.keep_revisions),
        ("snapshot.maxMaterialBytes", config.snapshot.max_material_bytes),
    ):
        if value < 1:
            problems.append(f"{key}: expected at least 1, not {value}")
    for key, seconds in (
        ("contact.suspectInterval", config.contact.suspect_interval_seconds),
        ("contact.healthyInterval", config.contact.healthy_interval_seconds),
        ("contact.lostInterval", config.contact.lost_interval_seconds),
        ("probe.timeout", config.probe.timeout_seconds),
        ("timing.tick", config.timing.tick_seconds),
        ("timing.watch", config.timing.watch_seconds),
        ("timing.lostWatch", config.timing.lost_watch_seconds),
        ("timing.backoffWatch", config.timing.backoff_watch_seconds),
    ):
        if seconds < 0.01:
            problems.append(f"{key}: expected at least 10ms, not {seconds}s")
    for index, endpoint in enumerate(config.endpoints):
        if not _is_endpoint(endpoint):
            problems.append(f"endpoints[{index}]: expected https://host:port")
    if config.service.port > 65535:
        problems.append(f"service.port: expected at most 65535, not {config.service.port}")
    namespace = config.hand_over.lease_namespace
    if not re.fullmatch(r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?", namespace):
        problems.append(
            f"handOver.leaseNamespace: expected the name of a namespace, not {_shown(namespace)}"
        )
    if not re.fullmatch(r"[0-9a-f-]{0,36}", config.pod_uid):
        problems.append(f"podUID: expected the UID of a pod, not {_shown(config.pod_uid)}")
    if not _is_runtime_endpoint(config.runtime_endpoint):
        problems.append(
            f"runtimeEndpoint: expected unix:///path/to/socket of at most {_SOCKET_PATH_BYTES} "
            f"bytes, not {_shown(config.runtime_endpoint)}"
        )
    return [*problems, *_http_problems(config.http), *_contradicting_places(config)]


def _contradicting_places(config: Config) -> list[str]:
    """The store is made private and read as ours alone: nothing else may lie in it."""
    store = config.store_directory
    if store == config.manifest_directory:
        return ["storeDirectory: must not be the kubelet's manifest folder"]
    if config.manifest_directory in store.parents:
        return ["storeDirectory: must not lie in the kubelet's manifest folder"]
    return [
        f"storeDirectory: must not contain {key} ({place})"
        for key, place in (
            ("manifestDirectory", config.manifest_directory),
            ("kubeletDirectory", config.kubelet_directory),
            ("kubeconfig", config.kubeconfig),
            ("lockFile", config.lock_file),
        )
        if store == place or store in place.parents
    ]


def host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of `127.0.0.1:10278` or `[::1]:10278`. Raises ValueError."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})", address)
    if match is None or int(match[3]) > 65535:
        raise ValueError("expected an IP address and a port, such as 127.0.0.1:10278")
    import socket  # the parked instance has no use for it

    family = socket.AF_INET6 if match[1] else socket.AF_INET
    host = match[1] or match[2]
    try:
        socket.inet_pton(family, host)
    except OSError:
        raise ValueError(f"{host} is not an IP address") from None
    return host, int(match[3])


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach the IP address."""
    return host.removeprefix("::ffff:").startswith("127.") or host == "::1"


def _http_problems(http: HTTPConfig) -> list[str]:
    if not http.address or http == HTTPConfig():
        return []
    try:
        host, _ = host_and_port(http.address)
    except ValueError as error:
        return [f"http.address: {error}, not {_shown(http.address)}"]
    if is_loopback(host) or http.allow_remote:
        return []
    return [
        f"http.address: {host} can be reached from other machines; "
        "expected a loopback address, or http.allowRemote: true"
    ]


def _is_endpoint(text: str) -> bool:
    match = re.fullmatch(r"https://(\[[0-9a-fA-F:.]+\]|[^/:\s@?#]+)(?::([0-9]{1,5}))?/?", text)
    return match is not None and (match[2] is None or 0 < int(match[2]) < 65536)


def _is_runtime_endpoint(text: str) -> bool:
    """Tell whether it is empty or what node.cri_connection takes for a socket's path."""
    path = text.removeprefix("unix:").removeprefix("//")
    length = len(path.encode(errors="surrogateescape"))
    return not text or (path.startswith("/") and length <= _SOCKET_PATH_BYTES)
