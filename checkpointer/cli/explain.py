"""`checkpointer explain`: what would become of a pod, and why.

From a file it needs no cluster: what only the API knows appears as a marked placeholder. On a
node, by NAMESPACE/POD, it looks at what a snapshot would look at. It changes nothing, and a
secret's value appears only in the manifest, which has to be asked for.
"""

from __future__ import annotations

import argparse
import io
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from checkpointer.cli.complaint import complain
from checkpointer.cli.explain_forms import Explained, print_manifests, print_verdicts
from checkpointer.cli.output import add_output_argument
from checkpointer.cli.run import add_config_arguments, read_config
from checkpointer.config import Config, ConfigError
from checkpointer.core.facts import Unknown
from checkpointer.errors import CheckpointerError, printable
from checkpointer.manifest.render import content_digest, render
from checkpointer.manifest.sanitize import sanitize
from checkpointer.manifest.select import exclusion, is_meant, is_own, opts_in_to_inlining
from checkpointer.manifest.sources import PLACEHOLDER, Options, Sources
from checkpointer.manifest.verdict import Finding, Outcome, Verdict
from checkpointer.node.patience import check_answers
from checkpointer.settings import check, selection, snapshot_settings
from checkpointer.store.own import own_workload
from checkpointer.store.revisions import Store
from checkpointer.values import replace

if TYPE_CHECKING:
    from checkpointer.node.api import ApiClient
    from checkpointer.snapshot import Snapshooter

EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED = 1, 2, 3

EPILOG = """exit status: 0 every pod is checkpointable, with warnings or without; 3 at least one is
not; 2 wrong usage or configuration; 1 the file, or the API, could not be read"""

_WITHOUT_API = (
    "try another --kubeconfig FILE; without the API, a pod in a file is explained by -f FILE"
)

Pod = Mapping[str, Any]


class UsageError(CheckpointerError):
    """The command line is wrong; the message says what was expected."""


class InputError(CheckpointerError):
    """What was read is no pod; the message names the file and says what was expected."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `explain`."""
    parser.epilog = EPILOG
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("pod", nargs="?", metavar="NAMESPACE/POD", help="a pod of this cluster")
    source.add_argument(
        "-f",
        "--filename",
        metavar="FILE",
        help="a pod as the API returns it, YAML or JSON, or a List of them; - for standard input",
    )
    add_output_argument(parser, "the pods")
    parser.add_argument(
        "--manifest",
        action="store_true",
        help="print the static pod instead (shows inlined secret values)",
    )
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the verdict on each pod; return the exit status."""
    try:
        config = read_config(arguments)
        check(config)
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        complain(error)
        return EXIT_USAGE
    try:
        explained = _explained(arguments, config)
    except UsageError as error:
        complain(error)
        return EXIT_USAGE
    except CheckpointerError as error:
        complain(error)
        return EXIT_FAILED
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if arguments.manifest:
            print_manifests(explained, arguments.output)
        else:
            print_verdicts(explained, arguments.output)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    refused = any(one.verdict.outcome is Outcome.REFUSED for one in explained)
    return EXIT_REFUSED if refused else 0


def _explained(arguments: argparse.Namespace, config: Config) -> list[Explained]:
    check_answers(config.store_directory)
    if arguments.filename is None:
        check_answers(config.kubelet_directory)
        return [_on_node(arguments.pod, config)]
    return [_on_file(pod, config) for pod in _from_file(arguments.filename)]


def _on_file(pod: Pod, config: Config) -> Explained:
    settings = snapshot_settings(config, _node_name(config), None)
    metadata = _mapping(pod.get("metadata"))
    opted_in = bool(_mapping(metadata.get("annotations"))) and opts_in_to_inlining(pod)
    options = replace(
        settings.options,
        placeholders=True,
        inline_secrets=opted_in or metadata.get("namespace") in settings.secret_namespaces,
        service_host=settings.options.service_host or PLACEHOLDER.format("the API endpoint"),
    )
    return _explain(pod, config, Sources(), options, ())


def _on_node(wanted: str, config: Config) -> Explained:
    from checkpointer.node.api import ApiClient

    namespace, slash, name = wanted.partition("/")
    if not (slash and namespace and name) or "/" in name:
        raise UsageError(f"{wanted}: expected NAMESPACE/POD, or -f FILE")
    try:
        client = ApiClient(config.kubeconfig)
    except CheckpointerError as error:
        raise CheckpointerError(f"{error}; {_WITHOUT_API}") from error
    try:
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(name, safe='')}"
        found = client.find(path)
        if isinstance(found, Unknown):
            raise CheckpointerError(f"{wanted}: {found.reason}; {_WITHOUT_API}")
        if found.value is None:
            raise CheckpointerError(f"{wanted}: there is no such pod")
        if not _mapping(found.value.get("metadata")).get("namespace"):
            raise CheckpointerError(f"{wanted}: the API's answer is not a pod")
        return _on_api(found.value, config, client)
    finally:
        client.close()


def _on_api(pod: Pod, config: Config, client: ApiClient) -> Explained:
    """Explain a pod of this cluster; only on its own node can images and volumes be seen."""
    from checkpointer.node.cri import ContainerRuntime, find_endpoint
    from checkpointer.node.kubeconfig import read_kubeconfig
    from checkpointer.node.kubelet import Kubelet
    from checkpointer.snapshot import Snapshooter

    node_name = _node_name(config)
    own = _mapping(pod.get("spec")).get("nodeName") or node_name
    endpoint = config.endpoints[0] if config.endpoints else None
    server = endpoint or read_kubeconfig(config.kubeconfig).server
    snapshooter = Snapshooter(
        Store(config.store_directory),
        Kubelet(config.kubelet_directory, config.snapshot.max_material_bytes),
        client,
        snapshot_settings(config, own, server),
    )
    notes: tuple[str, ...] = ()
    if own != node_name:
        notes = (f"it runs on {own}, this is {node_name}: its images and volumes were not seen",)
    elif runtime := config.runtime_endpoint or find_endpoint():
        snapshooter.runtime = ContainerRuntime(runtime)
    else:
        notes = ("no container runtime was found: its images were not seen",)
    verdict, sources, options = snapshooter.explain(pod)
    if own == node_name and verdict.manifest is not None:
        verdict, unseen = _with_volumes(pod, verdict, snapshooter, config)
        notes += unseen
    material = verdict if verdict.manifest is None else None
    return _explain(pod, config, sources, options, notes, material)


def _with_volumes(
    pod: Pod, verdict: Verdict, snapshooter: Snapshooter, config: Config
) -> tuple[Verdict, tuple[str, ...]]:
    """Look at the pod's volumes, where this user may."""
    folder = config.kubelet_directory / "pods" / pod["metadata"]["uid"] / "volumes"
    if not verdict.volumes:
        return verdict, ()
    if not os.access(folder, os.R_OK | os.X_OK):
        return verdict, (f"its volumes were not seen: {folder} cannot be read",)
    return snapshooter.judge_volumes(pod, verdict), ()


def _explain(
    pod: Pod,
    config: Config,
    sources: Sources,
    options: Options,
    notes: tuple[str, ...],
    refused: Verdict | None = None,
) -> Explained:
    """Sanitize with the paths that the material would have; `refused` is a verdict found before."""
    store = Store(config.store_directory)
    verdict = refused or sanitize(pod, "/material", sources, options)
    workload = verdict.workload
    name = f"{workload.namespace}/{_mapping(pod.get('metadata')).get('name') or ''}"
    rules = selection(config.selection)
    if verdict.manifest is not None:
        if reason := exclusion(pod, rules):
            refusal = Finding("selection", reason)
            verdict = replace(verdict, outcome=Outcome.REFUSED, manifest=None, refusals=(refusal,))
        else:
            verdict = sanitize(pod, str(store.material_root(workload, 1)), sources, options)
    if verdict.manifest is None:
        return Explained(name, verdict, None, notes)
    if not (is_meant(pod, rules) or is_own(pod, workload, own_workload(store))):
        notes = ("not selected: neither the annotation nor the configuration asks for it", *notes)
    digest = content_digest(verdict.manifest, "")
    manifest = render(verdict.manifest, workload, options.node_name, digest, 1, 1).content
    if PLACEHOLDER.partition("{")[0].encode() in manifest:
        notes += ("what only the API knows is a placeholder in the manifest",)
    return Explained(name, verdict, manifest, notes)


def _from_file(name: str) -> list[Pod]:
    from checkpointer.cli import documents

    shown = "standard input" if name == "-" else name
    pods = [pod for document in documents.read(name) for pod in _pods_in(document, shown)]
    if not pods:
        raise InputError(f"{shown}: holds no pod; expected a Pod or a List of Pods")
    return pods


def _pods_in(document: Any, shown: str) -> Iterator[Pod]:
    if document is None:
        return
    kind = document.get("kind") if isinstance(document, dict) else None
    items = document.get("items") if kind in ("List", "PodList") else None
    if kind == "Pod":
        yield document
    elif isinstance(items, list | None) and kind in ("List", "PodList"):
        for item in items or ():
            # The items of a PodList have no kind of their own in the API's answer.
            yield from _pods_in({"kind": "Pod", **item} if isinstance(item, dict) else item, shown)
    else:
        what = f", not {kind}" if isinstance(kind, str) else ""
        raise InputError(printable(f"{shown}: expected a Pod or a List of Pods{what}"))


def _node_name(config: Config) -> str:
    return config.node_name or socket.gethostname().lower()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
