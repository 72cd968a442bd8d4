"""What the kubelet was told: the settings of it that static pods depend on.

Flags are over the drop-in folder, that over the configuration file (cmd/kubelet/app/server.go:
newKubeletCommand). The kubelet's flags are read from its process where that can be seen; from a
pod without the host's processes it cannot, and then the file in its usual place has to do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from checkpointer.core.facts import Fact, Known, Unknown
from checkpointer.errors import CheckpointerError
from checkpointer.node.images import NEVER_VERIFY, PRELOADED, PullPolicy
from checkpointer.shallow_yaml import loader
from checkpointer.values import dataclass, replace

PROC = Path("/proc")
DEFAULT_ROOT = "/var/lib/kubelet"
CONFIG_FILE = "config.yaml"
"""Below the kubelet's folder, where kubeadm puts it."""
ENSURE_SECRET_PULLED_IMAGES = "KubeletEnsureSecretPulledImages"  # noqa: S105 - a feature gate


class KubeletConfigError(CheckpointerError):
    """The kubelet's configuration cannot be read; the message names the file."""


@dataclass(frozen=True, slots=True)
class KubeletProcess:
    """A running kubelet, as its command line tells."""

    pid: int
    flags: Mapping[str, str]
    """Names without dashes; of one given twice the last value."""
    folder: Path
    """Its working folder, which relative paths in flags start from."""
    files: Path = Path("/")
    """Where its files are for us: another one than `/` when it, or we, run in a container."""

    @property
    def root(self) -> str:
        """Return its `--root-dir`."""
        return self.flags.get("root-dir") or DEFAULT_ROOT


@dataclass(frozen=True, slots=True)
class KubeletSettings:
    """What of the kubelet's settings bears on checkpoints."""

    source: str
    """Where this was read, for people."""
    static_pod_path: Path | None
    """None: it runs no static pods at all."""
    runtime_endpoint: str = ""
    """The container runtime's socket; empty where nothing is said of it."""
    kubeconfig: Path | None = None
    node_name: str = ""
    """`--hostname-override`; empty: the host's name."""
    pull_policy: PullPolicy = PRELOADED
    has_cloud_address: bool | None = None
    """Whether the kubelet has its own address from the API, where a cloud provider writes it; None
    where its flags cannot be seen."""


def find_process(kubelet_dir: Path, proc: Path = PROC) -> Fact[KubeletProcess]:
    """Return the running kubelet whose folder this is; Unknown when none can be seen from here."""
    found = [one for one in _kubelets(proc) if Path(one.root) == kubelet_dir]
    if not found:
        return Unknown(f"no process of a kubelet with the folder {kubelet_dir} can be seen")
    # One of a container of this machine has a view of its own on that folder: ours goes first.
    return Known(min(found, key=lambda one: (one.files != Path("/"), one.pid)))


def read_settings(kubelet_dir: Path, proc: Path = PROC) -> Fact[KubeletSettings]:
    """Return what the kubelet was told, by its process or else by the file in its usual place."""
    process = find_process(kubelet_dir, proc)
    try:
        if isinstance(process, Known):
            return Known(_of_process(process.value))
        path = kubelet_dir / CONFIG_FILE
        if not path.exists():
            return Unknown(f"{process.reason}, and there is no {path}")
        return Known(_of_file(path))
    except CheckpointerError as error:
        return Unknown(str(error))


def _of_process(process: KubeletProcess) -> KubeletSettings:
    flags, config = process.flags, {}
    source = f"the kubelet's command line (process {process.pid})"
    if name := flags.get("config"):
        path = process.folder / name
        config = _load(path, process.files)
        source = f"{path}, as {source} says"
    if name := flags.get("config-dir"):
        for path in _drop_ins(process.folder / name, process.files):
            config = _merged(config, _load(path, process.files))
        source += f", with {process.folder / name}"
    is_external = flags.get("cloud-provider") == "external"
    return replace(
        _settings(source, config, flags, process.folder),
        has_cloud_address=is_external and not flags.get("node-ip"),
    )


def _of_file(path: Path) -> KubeletSettings:
    return _settings(f"{path} (its flags cannot be seen)", _load(path), {}, path.parent)


def _settings(
    source: str, config: Mapping[str, Any], flags: Mapping[str, str], folder: Path
) -> KubeletSettings:
    static = _text(config, "staticPodPath")
    if "pod-manifest-path" in flags:
        static = str(folder / flags["pod-manifest-path"]) if flags["pod-manifest-path"] else ""
    kubeconfig = flags.get("kubeconfig")
    endpoint = flags.get("container-runtime-endpoint")
    return KubeletSettings(
        source=source,
        static_pod_path=Path(static) if static else None,
        runtime_endpoint=endpoint or _text(config, "containerRuntimeEndpoint"),
        kubeconfig=folder / kubeconfig if kubeconfig else None,
        node_name=flags.get("hostname-override", ""),
        pull_policy=_pull_policy(config, flags),
    )


def _pull_policy(config: Mapping[str, Any], flags: Mapping[str, str]) -> PullPolicy:
    gates = _mapping(config.get("featureGates"))
    in_flags = dict(
        gate.split("=", 1) for gate in flags.get("feature-gates", "").split(",") if "=" in gate
    )
    gate = in_flags.get(ENSURE_SECRET_PULLED_IMAGES, gates.get(ENSURE_SECRET_PULLED_IMAGES))
    if str(gate).lower() == "false":
        return PullPolicy(NEVER_VERIFY)
    allowed = config.get("preloadedImagesVerificationAllowlist")
    return PullPolicy(
        _text(config, "imagePullCredentialsVerificationPolicy") or PRELOADED.name,
        tuple(str(name) for name in allowed) if isinstance(allowed, list) else (),
    )


def _load(path: Path, files: Path = Path("/")) -> dict[str, Any]:
    """Return a KubeletConfiguration with its paths made absolute (configfiles.go: Load)."""
    try:
        text = (files / path.relative_to("/")).read_text()
    except OSError as error:
        raise KubeletConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise KubeletConfigError(f"{path}: not a text file") from error
    try:
        document = yaml.load(text, loader())  # noqa: S506 - a safe one
    except (yaml.YAMLError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        raise KubeletConfigError(f"{path}: not valid YAML") from error
    if not isinstance(document, dict) or document.get("kind") != "KubeletConfiguration":
        raise KubeletConfigError(f"{path}: expected a KubeletConfiguration")
    if static := _text(document, "staticPodPath"):
        document["staticPodPath"] = str(path.parent / static)
    return document


def _drop_ins(folder: Path, files: Path) -> list[Path]:
    """Return the files of a `--config-dir` in the kubelet's order: names that end in .conf."""
    place = files / folder.relative_to("/")
    if not place.is_dir():
        raise KubeletConfigError(f"{folder}: no such folder")
    found = (path for path in place.rglob("*.conf") if path.is_file())
    return sorted(folder / path.relative_to(place) for path in found)


def _merged(config: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(config)
    for key, value in patch.items():
        inner = found.get(key)
        is_map = isinstance(inner, dict) and isinstance(value, dict)
        found[key] = _merged(_mapping(inner), value) if is_map else value
    return found


def _kubelets(proc: Path) -> Iterator[KubeletProcess]:
    try:
        names = [name for name in os.listdir(proc) if name.isdecimal()]
    except OSError:
        return
    for name in names:
        try:
            words = os.fsdecode((proc / name / "cmdline").read_bytes()).split("\0")[:-1]
            if words and (arguments := _arguments(words)) is not None:
                folder = Path(os.readlink(proc / name / "cwd"))
                files = Path("/") if _sees_our_files(name, proc) else proc / name / "root"
                yield KubeletProcess(int(name), _flags(arguments), folder, files)
        except OSError:
            continue  # it ended, or is not ours to see


def _arguments(words: list[str]) -> list[str] | None:
    """Return the kubelet's arguments; None when the command line is not that of a kubelet."""
    program = words[0].rsplit("/", 1)[-1]
    if program == "kubelet":
        return words[1:]
    return words[2:] if program == "hyperkube" and words[1:2] == ["kubelet"] else None


def _flags(arguments: list[str]) -> dict[str, str]:
    """Return the flags in any of the forms that pflag takes."""
    found: dict[str, str] = {}
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        if not argument.startswith("-"):
            continue
        name, equals, value = argument.lstrip("-").partition("=")
        if not equals:
            value = "true" if following.startswith("-") else following
        found[name.replace("_", "-")] = value
    return found


def _sees_our_files(pid: str, proc: Path) -> bool:
    return os.readlink(proc / pid / "ns/mnt") == os.readlink(proc / "self/ns/mnt")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key)
    return value if isinstance(value, str) else ""
