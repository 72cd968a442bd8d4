"""status and history: from the agent while it answers, from the disk when it does not."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest
import yaml

from checkpointer.core.hold import RELEASED, Hold
from checkpointer.report.spans import age, size
from checkpointer.simulation.waiting import wait_until

NAME = "kube-system/daemonset/gateway"


@pytest.fixture
def web(stand: Any) -> Any:
    """The node with its agent, and one pod that is checkpointed."""
    container = {"name": "main", "image": "gateway:1"}
    stand.node.add_daemonset("gateway", {"hostNetwork": True, "containers": [container]})
    stand.node.agent.start()

    def is_told() -> bool:
        answer = stand.run("status", "-o", "name")
        return answer.status == 0 and answer.out == f"{NAME}\n"

    wait_until(is_told, 30, "the agent to tell of its checkpoint")
    return stand


def test_the_agent_is_asked(web: Any) -> None:
    """In every form; the exit status says that it was the agent."""
    answer = web.run("status")
    assert answer.status == 0
    assert "agent        running: pid " in answer.out
    assert "contact      reachable for " in answer.out
    titles, row = answer.out.splitlines()[-2:]
    assert titles.split()[:4] == ["WORKLOAD", "STATE", "RUNS", "REVISION"]
    assert row.split()[:2] == [NAME, "standby"]
    document = web.run("status", "-o", "json").json
    assert document["kind"] == "Status"
    assert yaml.safe_load(web.run("status", "-o", "yaml").out)["node"] == document["node"]
    assert web.run("status", "-o", "name").out == f"{NAME}\n"


def test_a_hold_is_shown_until_it_is_lifted(web: Any) -> None:
    """By the agent, who it was and why."""
    web.run("release", "gateway", "--reason", "a drill")
    wait_until(lambda: " held " in web.run("status").out, 10, "the hold to be shown")
    assert "its hold to be lifted (released by hand, root: a drill)" in web.run("status").out
    assert web.run("status", "-o", "json").json["checkpoints"][0]["hold"] == (
        "released by hand, root: a drill"
    )
    web.run("release", "gateway", "--lift")
    wait_until(lambda: " standby " in web.run("status").out, 10, "the hold to be gone")
    told = [line for line in web.run("history").out.splitlines() if "by hand" in line]
    assert [line.split()[1] for line in told] == ["held", "hold-lifted"]
    assert told[0].endswith("released by hand, root: a drill")


def test_history_tells_what_the_agent_has_done(web: Any) -> None:
    """Oldest first, of one workload if asked, when the agent is gone too."""
    web.node.agent.stop()
    words = [line.split()[1] for line in web.run("history").out.splitlines()[1:]]
    assert words[0] == "started"
    assert words[-1] == "stopped"
    assert "snapshot" in words
    of_gateway = web.run("history", "gateway", "-o", "json").json
    assert {one["workload"]["name"] for one in of_gateway} == {"gateway"}
    assert len(web.run("history", "-n", "1").out.splitlines()) == 2
    names = web.run("history", "-o", "name").out.splitlines()
    assert "kube-system/daemonset/gateway" in names
    nobody = web.run("history", "nobody").err
    assert nobody == f"nobody: the journal tells nothing of it; it tells of: {', '.join(names)}\n"
    assert web.run("history", "--since", "0s").err == "nothing of that has happened\n"


def test_history_of_a_new_node_is_said_to_be_empty(stand: Any) -> None:
    """No file yet is no error."""
    answer = stand.run("history")
    assert answer.status == 0
    assert answer.err.startswith("nothing has been written to the journal in ")


def test_without_an_agent_the_disk_is_read(stand: Any) -> None:
    """Exit status 3 says so; a hold is seen there too."""
    stand.add_revision()
    stand.store.write_hold(stand.workload, Hold(RELEASED, 0.0, "alice", "a drill"))
    answer = stand.run("status")
    assert answer.status == 3
    assert "agent     down: the agent is not running" in answer.out
    row, *_, last = (line.split() for line in answer.out.splitlines() if NAME in line)
    assert row[:4] == [NAME, "held", "nothing", "1"]
    assert " ".join(last) == f"{NAME} it is held released by hand, alice: a drill"
    document = stand.run("status", "-o", "json").json
    assert document["agent"]["running"] is False
    assert document["checkpoints"][0]["hold"] == "released by hand, alice: a drill"


def test_a_runtime_that_hangs_is_said_to(stand: Any) -> None:
    """Once, and nothing is made up about what runs."""
    stand.add_revision()
    stand.node.cri.hangs = True
    answer = stand.run("status")
    assert answer.status == 3
    assert answer.out.count("no answer within") == 1
    assert "within 0.0 s" not in answer.out
    assert answer.out.splitlines()[-1].split()[:4] == [NAME, "standby", "-", "1"]


def test_an_agent_that_hangs_is_not_waited_for(stand: Any) -> None:
    """Somebody accepts at its socket and says nothing: the disk is read."""
    stand.add_revision()
    path = stand.store.root / "agent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        answer = stand.run("status")
    assert answer.status == 3
    assert "did not answer within 0.15 s" in answer.out


def test_watching_goes_on_until_it_is_interrupted(stand: Any) -> None:
    """In a pipe it tells again only what has changed."""
    stand.add_revision()
    config = str(stand.node.agent_config_file)
    command = [sys.executable, "-m", "checkpointer", "status", "--watch=0.2", "-o", "name"]
    with subprocess.Popen(
        [*command, "--config", config], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == f"{NAME}\n"
        stand.store.write_hold(stand.workload, Hold(RELEASED, 0.0, "alice"))
        assert process.stdout.readline() == f"{NAME}\n"
        process.send_signal(2)
        assert process.wait(10) == 130
        assert process.stderr.read() == ""


@pytest.mark.parametrize("interval", ["0.2", "3600"])
def test_watching_ends_when_its_reader_leaves(stand: Any, interval: str) -> None:
    """Also while nothing changes, and without a word."""
    stand.add_revision()
    config = str(stand.node.agent_config_file)
    command = [sys.executable, "-m", "checkpointer", "status", f"--watch={interval}", "-o", "name"]
    with subprocess.Popen(
        [*command, "--config", config], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == f"{NAME}\n"
        process.stdout.close()
        assert process.wait(10) == 3
        assert process.stderr.read() == ""


def test_a_start_of_status_imports_nothing_heavy_while_the_agent_answers(stand: Any) -> None:
    """gRPC, the Kubernetes client and rich would take longer than the answer."""
    root = stand.store.root
    root.mkdir(parents=True, mode=0o700)
    document = json.dumps(stand.run("status", "-o", "json").json)
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(root / "agent.sock"))
        agent.listen()

        def answer() -> None:
            connection, _ = agent.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(f"HTTP/1.0 200 OK\r\n\r\n{document}".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        program = (
            "import sys; from checkpointer.__main__ import main; "
            f"main(['status', '--config', {str(stand.node.agent_config_file)!r}]); "
            "print(sorted({'grpc', 'kubernetes', 'rich', 'watchdog'} & sys.modules.keys()))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        thread.join()
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (-5, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (3599, "59m"),
        (7200, "120m"),
        (10800, "3h"),
        (11000, "3h3m"),
        (90000, "25h"),
        (172800, "2d"),
    ],
)
def test_ages_are_told_in_the_units_that_matter(seconds: float | None, shown: str) -> None:
    """As kubectl does."""
    assert age(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 40, "5120.0 GiB")],
)
def test_sizes_are_told_in_the_unit_that_fits(count: int | None, shown: str) -> None:
    """Powers of 1024."""
    assert size(count) == shown
