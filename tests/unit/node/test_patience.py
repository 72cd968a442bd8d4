"""What never answers is given up, one thread at most is left with it, and its change is undone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from checkpointer.core.facts import Known, Unknown
from checkpointer.core.workload import Workload
from checkpointer.manifest.render import Mark, mark_of, render
from checkpointer.node.patience import Patience, SilentError
from checkpointer.node.patient_manifests import PatientManifestFolder
from checkpointer.store.errors import CannotTellError

SHORT_SECONDS = 0.05
LONG_SECONDS = 10.0
NAME = "pod-checkpointer-kube-system-api.json"


class Hanging:
    """A call that does not come back until it is let go."""

    def __init__(self) -> None:
        self.calls = 0
        self._may_go = threading.Event()
        self._is_over = threading.Event()

    def __call__(self) -> str:
        self.calls += 1
        assert self._may_go.wait(LONG_SECONDS)
        return "late"

    def let_go(self) -> None:
        self._may_go.set()

    def over(self) -> None:
        """Note that it has come back; for `on_late`."""
        self._is_over.set()

    def wait(self) -> None:
        assert self._is_over.wait(LONG_SECONDS)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    found = Hanging()
    yield found
    found.let_go()


def asking() -> int:
    return sum(thread.name == "disk" for thread in threading.enumerate())


def wait_for(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it has not come about")


def test_answer_in_time_is_passed_on() -> None:
    """A value is returned, an error is raised, and no thread stays."""
    patience = Patience("/x", LONG_SECONDS)
    assert patience.ask(lambda: 5) == 5
    with pytest.raises(FileNotFoundError, match="no such"):
        patience.ask(lambda: (_ for _ in ()).throw(FileNotFoundError("no such")))
    with pytest.raises(KeyboardInterrupt):
        patience.ask(lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert asking() == 0


def test_silence_leaves_one_thread(hanging: Hanging) -> None:
    """Whoever asks again is told at once, and nothing is asked meanwhile."""
    patience = Patience("/etc/kubernetes/manifests", SHORT_SECONDS)
    for _ in range(50):
        with pytest.raises(
            SilentError, match=r"/etc/kubernetes/manifests has not answered in time"
        ):
            patience.ask(hanging)
    assert hanging.calls == 1
    assert asking() == 1


def test_late_answer_is_told_and_the_next_question_is_asked(hanging: Hanging) -> None:
    """A mount that comes back is used again at once; the late answer itself is nobody's."""
    patience = Patience("/x", SHORT_SECONDS, hanging.over)
    with pytest.raises(SilentError):
        patience.ask(hanging)
    hanging.let_go()
    hanging.wait()
    wait_for(lambda: asking() == 0)
    assert patience.ask(lambda: "new") == "new"


def test_no_thread_left_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node out of threads tells nothing about the folder; nothing is asked."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    patience = Patience("/x", LONG_SECONDS)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(CannotTellError, match="cannot ask /x: can't start new thread"):
            patience.ask(lambda: 5)
    assert patience.ask(lambda: 5) == 5


class Slow:
    """Tells marks; hangs at one while it is told to."""

    def __init__(self, hanging: Hanging) -> None:
        self._hanging, self.is_slow = hanging, False

    def __call__(self, content: bytes) -> Mark | None:
        if self.is_slow:
            self._hanging()
        return mark_of(content)


@pytest.fixture
def slow(hanging: Hanging) -> Slow:
    return Slow(hanging)


@pytest.fixture
def folder(tmp_path: Path, slow: Slow, hanging: Hanging) -> PatientManifestFolder:
    """A folder with one manifest of ours, which hangs whenever `slow` does."""
    return PatientManifestFolder(tmp_path, slow, SHORT_SECONDS, SHORT_SECONDS, hanging.over)


def test_folder_that_hangs_is_unknown(
    folder: PatientManifestFolder, slow: Slow, hanging: Hanging, tmp_path: Path
) -> None:
    """It is not empty: that would have copies activated beside those that are active."""
    (tmp_path / NAME).write_bytes(b"{}")
    slow.is_slow = True
    for _ in range(3):
        found = folder.observe()
        assert isinstance(found, Unknown)
        assert found.reason.startswith(f"{tmp_path} has not answered in time")
    slow.is_slow = False
    hanging.let_go()
    hanging.wait()
    wait_for(lambda: isinstance(folder.observe(), Known))


@pytest.mark.parametrize("change", ["write", "remove"])
def test_change_that_was_given_up_is_not_made_later(
    tmp_path: Path, hanging: Hanging, ours: bytes, change: str
) -> None:
    """It was decided on what held then; when the folder answers, another thing may be right."""
    slow = Slow(hanging)
    folder = PatientManifestFolder(tmp_path, slow, SHORT_SECONDS, SHORT_SECONDS, hanging.over)
    if change == "remove":
        (tmp_path / NAME).write_bytes(ours)
    before = sorted(tmp_path.iterdir())
    slow.is_slow = True
    begin = partial(folder.write, NAME, ours) if change == "write" else partial(folder.remove, NAME)
    with pytest.raises(SilentError):
        begin()
    slow.is_slow = False
    hanging.let_go()
    hanging.wait()
    wait_for(lambda: asking() == 0)
    folder.clean()
    assert sorted(tmp_path.iterdir()) == before
    assert begin()


@pytest.fixture
def ours() -> bytes:
    """A manifest with our mark."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "api", "namespace": "kube-system"},
        "spec": {"hostNetwork": True, "containers": [{"name": "a", "image": "pause:3"}]},
    }
    workload = Workload("kube-system", "DaemonSet", "api")
    return render(pod, workload, "node-1", "d", 1, 0).content
