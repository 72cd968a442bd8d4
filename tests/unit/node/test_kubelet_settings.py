"""What the kubelet was told: flags over the drop-in folder over its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpointer.core.facts import Known, Unknown
from checkpointer.node.images import PRELOADED, PullPolicy
from checkpointer.node.kubelet_settings import KubeletSettings, find_process, read_settings

HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"


class Machine:
    """A /proc with the processes of a test, and a kubelet's folder."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.kubelet_dir = folder / "proc", folder / "kubelet"
        self.kubelet_dir.mkdir()
        self.run(1, "/sbin/init")
        self.namespace("self", "mnt:[1]")

    def run(self, pid: int, *words: str, namespace: str = "mnt:[1]") -> None:
        place = self.proc / str(pid)
        place.mkdir(parents=True)
        (place / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
        (place / "cwd").symlink_to("/srv")
        self.namespace(str(pid), namespace)

    def namespace(self, pid: str, name: str) -> None:
        place = self.proc / pid / "ns"
        place.mkdir(parents=True)
        (place / "mnt").symlink_to(name)

    def kubelet(self, *flags: str, pid: int = 77, namespace: str = "mnt:[1]") -> None:
        root = f"--root-dir={self.kubelet_dir}"
        self.run(pid, "/usr/bin/kubelet", root, *flags, namespace=namespace)

    def file(self, name: str, text: str) -> Path:
        path = self.kubelet_dir / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEAD + text)
        return path

    def settings(self) -> KubeletSettings:
        found = read_settings(self.kubelet_dir, self.proc)
        assert isinstance(found, Known), found
        return found.value


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_file_is_the_one_that_the_process_names(machine: Machine) -> None:
    """Not the one in the usual place."""
    machine.file("config.yaml", "staticPodPath: /wrong\n")
    path = machine.file("other.yaml", "staticPodPath: /etc/kubernetes/manifests/\n")
    machine.kubelet(f"--config={path}", "--kubeconfig", "/etc/kubernetes/kubelet.conf")
    found = machine.settings()
    assert found.static_pod_path == Path("/etc/kubernetes/manifests")
    assert found.kubeconfig == Path("/etc/kubernetes/kubelet.conf")
    assert found.source == f"{path}, as the kubelet's command line (process 77) says"


def test_flags_are_over_drop_ins_over_the_file(machine: Machine) -> None:
    """And of the drop-ins the last one wins; other names in that folder are not read."""
    path = machine.file(
        "config.yaml", "staticPodPath: /a\nfeatureGates: {A: true}\ncontainerRuntimeEndpoint: x\n"
    )
    drop_in = machine.file("d/10-one.conf", "staticPodPath: /b\nfeatureGates: {B: true}\n")
    machine.file("d/20-two.conf", "staticPodPath: /c\n")
    machine.file("d/30-three.yaml", "staticPodPath: /d\n")
    flags = (f"--config={path}", f"--config-dir={drop_in.parent}")
    machine.kubelet(*flags)
    found = machine.settings()
    assert (found.static_pod_path, found.runtime_endpoint) == (Path("/c"), "x")
    machine.kubelet(*flags, "--pod-manifest-path=/e", "--node-labels", "a=b", pid=76)
    assert machine.settings().static_pod_path == Path("/e")


def test_no_static_pod_path_is_none_and_not_a_guess(machine: Machine) -> None:
    """Such a kubelet runs no static pods."""
    machine.kubelet(f"--config={machine.file('config.yaml', 'clusterDNS: [10.0.0.10]')}")
    assert machine.settings().static_pod_path is None


def test_relative_paths_start_where_they_were_written(machine: Machine) -> None:
    """In the file at the file's folder, in flags at the process's."""
    machine.kubelet(f"--config={machine.file('config.yaml', 'staticPodPath: manifests')}")
    assert machine.settings().static_pod_path == machine.kubelet_dir / "manifests"
    machine.kubelet("--pod-manifest-path=manifests", pid=76)
    assert machine.settings().static_pod_path == Path("/srv/manifests")


def test_without_a_process_the_file_in_the_usual_place_has_to_do(machine: Machine) -> None:
    """In a pod without the host's processes the flags cannot be seen; it says so."""
    path = machine.file("config.yaml", "staticPodPath: /a")
    found = machine.settings()
    assert found.static_pod_path == Path("/a")
    assert found.source == f"{path} (its flags cannot be seen)"


def test_neither_process_nor_file_is_unknown(machine: Machine) -> None:
    """What nobody told is not taken for the default."""
    found = read_settings(machine.kubelet_dir, machine.proc)
    assert found == Unknown(
        f"no process of a kubelet with the folder {machine.kubelet_dir} can be seen, and there is "
        f"no {machine.kubelet_dir}/config.yaml"
    )


def test_the_process_is_the_one_of_this_kubelets_folder(machine: Machine) -> None:
    """Nodes that run as containers of this machine have kubelets of their own."""
    machine.run(5, "kubelet", "--root-dir=/elsewhere")
    machine.run(6, "/usr/bin/kubelet-wrapper", f"--root-dir={machine.kubelet_dir}")
    assert isinstance(find_process(machine.kubelet_dir, machine.proc), Unknown)
    machine.kubelet(pid=7, namespace="mnt:[2]")
    machine.kubelet(pid=8)
    found = find_process(machine.kubelet_dir, machine.proc)
    assert isinstance(found, Known)
    assert found.value.pid == 8


def test_the_files_of_a_kubelet_in_a_container_are_read_there(machine: Machine) -> None:
    """Or those of the node's kubelet, when it is us who run in a container."""
    inside = machine.proc / "77/root"
    machine.kubelet("--config=/k/c.yaml", "--config-dir=/k/d", namespace="mnt:[2]")
    (inside / "k/d").mkdir(parents=True)
    (inside / "k/c.yaml").write_text(f"{HEAD}staticPodPath: manifests\n")
    (inside / "k/d/1.conf").write_text(f"{HEAD}containerRuntimeEndpoint: unix:///run/c.sock\n")
    found = machine.settings()
    assert found.static_pod_path == Path("/k/manifests")
    assert found.runtime_endpoint == "unix:///run/c.sock"
    assert str(inside) not in found.source


@pytest.mark.parametrize("text", ["kind: Pod\n", "{", "[]", "a: &a [*a]\n"])
def test_a_file_that_is_no_configuration_is_unknown(machine: Machine, text: str) -> None:
    """And the reason names it."""
    path = machine.kubelet_dir / "config.yaml"
    path.write_text(text)
    found = read_settings(machine.kubelet_dir, machine.proc)
    assert isinstance(found, Unknown)
    assert found.reason.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", PRELOADED),
        ("imagePullCredentialsVerificationPolicy: AlwaysVerify", PullPolicy("AlwaysVerify")),
        (
            "imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\n"
            "preloadedImagesVerificationAllowlist: [registry.example/*]",
            PullPolicy("NeverVerifyAllowlistedImages", ("registry.example/*",)),
        ),
        ("featureGates: {KubeletEnsureSecretPulledImages: false}", PullPolicy("NeverVerify")),
    ],
)
def test_the_policy_for_images(machine: Machine, text: str, policy: PullPolicy) -> None:
    """Without its gate the kubelet verifies nothing."""
    machine.file("config.yaml", text)
    assert machine.settings().pull_policy == policy


def test_a_gate_in_the_flags_is_over_the_files(machine: Machine) -> None:
    """As for every other setting."""
    path = machine.file("config.yaml", "featureGates: {KubeletEnsureSecretPulledImages: false}")
    gates = "--feature-gates=Other=false,KubeletEnsureSecretPulledImages=true"
    machine.kubelet(f"--config={path}", gates)
    assert machine.settings().pull_policy == PRELOADED


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], False),
        (["--cloud-provider=external"], True),
        (["--cloud-provider", "external", "--node-ip="], True),
        (["--cloud-provider=external", "--node-ip=10.0.0.7"], False),
        (["--node-ip=10.0.0.7"], False),
    ],
)
def test_who_tells_the_kubelet_its_address(
    machine: Machine, flags: list[str], expected: bool
) -> None:
    """An external cloud provider does, through the API, unless a flag has."""
    path = machine.file("config.yaml", "")
    machine.kubelet(f"--config={path}", *flags)
    assert machine.settings().has_cloud_address is expected


def test_flags_that_cannot_be_seen_tell_of_no_address(machine: Machine) -> None:
    """From a pod without the host's processes: neither yes nor no."""
    machine.file("config.yaml", "")
    assert machine.settings().has_cloud_address is None
