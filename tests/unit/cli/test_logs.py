"""logs: found through the runtime, in the CRI's format, followed over restarts of the file."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checkpointer.node.container_logs import LogError, LogLine, parse_line, read_lines, seconds_of
from checkpointer.simulation.waiting import wait_until

T1, T2 = "2026-03-01T10:00:00.000000001Z", "2026-03-01T10:00:01.500000000Z"


def entry(text: str, stamp: str = T1, tag: str = "F") -> str:
    return f"{stamp} stdout {tag} {text}\n"


def texts(lines: Any) -> list[str]:
    return [line.text.decode() for line in lines]


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (f"{T1} stdout F hello  you".encode(), LogLine(T1, "stdout", b"hello  you")),
        (f"{T1} stderr P half".encode(), LogLine(T1, "stderr", b"half", is_partial=True)),
        (f"{T1} stdout P:x half".encode(), LogLine(T1, "stdout", b"half", is_partial=True)),
        (f"{T1} stdout F".encode(), LogLine(T1, "stdout", b"")),
        (b"\xff\x00 no format", LogLine("", "stdout", b"\xff\x00 no format")),
        (
            b'{"log":"hello\\n","stream":"stderr","time":"' + T1.encode() + b'"}',
            LogLine(T1, "stderr", b"hello"),
        ),
        (b'{"log":"half","stream":"stdout"}', LogLine("", "stdout", b"half", is_partial=True)),
        (b'{"message": 1}', LogLine("", "stdout", b'{"message": 1}')),
        (b"{", LogLine("", "stdout", b"{")),
    ],
)
def test_lines_of_both_formats_are_read(raw: bytes, line: LogLine) -> None:
    """What is in neither is text as it is."""
    assert parse_line(raw + b"\n") == line


def test_times_are_read_with_nanoseconds_and_offsets() -> None:
    """As runtimes write them."""
    assert seconds_of(LogLine("2026-03-01T10:00:00.123456789Z", "", b"")) == 1772359200.123456
    assert seconds_of(LogLine("2026-03-01T12:00:00.5+02:00", "", b"")) == 1772359200.5
    assert seconds_of(LogLine("2026-03-01T10:00:00Z", "", b"")) == 1772359200.0
    assert seconds_of(LogLine("yesterday", "", b"")) is None


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001])
def test_the_tail_is_read_from_the_end(tmp_path: Path, count: int) -> None:
    """Also when it is longer than what is read at once."""
    path = tmp_path / "0.log"
    path.write_text("".join(entry(f"{n} {'x' * 500}") for n in range(1000)))
    found = [text.split()[0] for text in texts(read_lines(path, tail=count))]
    assert found == [str(n) for n in range(max(0, 1000 - count), 1000)]


def test_since_leaves_out_what_is_older(tmp_path: Path) -> None:
    """By the time in the line."""
    path = tmp_path / "0.log"
    path.write_text(entry("old", T1) + entry("new", T2))
    assert texts(read_lines(path, since=1772359201.0)) == ["new"]


def test_following_reads_what_is_written_and_the_next_file(tmp_path: Path) -> None:
    """A half-written line waits; a file that is renamed away is read to its end."""
    path = tmp_path / "0.log"
    path.write_text(entry("one") + "2026")
    steps = itertools.count()

    def goes_on() -> bool:
        match next(steps):
            case 0:
                path.write_text(entry("one") + entry("two"))
            case 1:
                with path.open("a") as file:
                    file.write(entry("three"))
                path.rename(tmp_path / "0.log.20260301")
                path.write_text(entry("four"))
            case 2:
                path.write_text("")
            case 3:
                path.write_text(entry("5"))
            case _:
                return False
        return True

    assert texts(read_lines(path, goes_on=goes_on)) == ["one", "two", "three", "four", "5"]


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The runtime may have told of a file that was removed."""
    with pytest.raises(LogError, match=r"cannot read .*/0\.log: No such file"):
        list(read_lines(tmp_path / "0.log"))


def test_logs_of_static_pods_copies_and_parents(stand: Any) -> None:
    """By pod or workload; whose log it is goes to standard error."""
    stand.place("etcd")
    answer = stand.run("logs", "etcd")
    assert (answer.status, answer.out) == (0, "started\n")
    assert answer.err == "static pod kube-system/etcd-node-1, container etcd, restarts: 0\n"
    stand.add_revision()
    stand.run("activate", "gateway")
    answer = stand.run("logs", "gateway", "--timestamps")
    assert answer.out.endswith("Z started\n")
    assert answer.err.startswith("copy kube-system/gateway-checkpoint-")


def test_previous_is_that_of_the_container_before(stand: Any) -> None:
    """What a crash leaves is what one wants to read."""
    stand.place("etcd")
    answer = stand.run("logs", "etcd", "--previous")
    assert answer.status == 1
    assert "from before a restart" in answer.err
    (old,) = stand.node.running("etcd")
    stand.node.runtime.kill(old.id, exit_code=3)
    wait_until(lambda: stand.node.running("etcd"), 5, "its restart")
    assert stand.run("logs", "etcd", "-p").out == "started\nexit 3\n"
    assert stand.run("logs", "etcd").out == "started\n"
    assert stand.run("logs", "etcd", "-p", "--tail", "1").out == "exit 3\n"


def test_of_several_containers_one_has_to_be_named(stand: Any) -> None:
    """The message names them."""
    containers = [{"name": name, "image": f"{name}:1"} for name in ("first", "second")]
    stand.node.add_daemonset("web", {"containers": containers})
    wait_until(lambda: stand.node.parents("first") and stand.node.parents("second"), 5, "the pod")
    pod = stand.node.parents("first")[0].sandbox.config.name
    answer = stand.run("logs", pod)
    assert answer.status == 2
    assert "say which container, -c " in answer.err
    assert stand.run("logs", pod, "-c", "second").out == "started\n"
    assert "no container third; there are: " in stand.run("logs", pod, "-c", "third").err


def test_following_ends_with_the_container(stand: Any) -> None:
    """Printed as it comes."""
    stand.place("etcd")
    config = str(stand.node.agent_config_file)
    command = [sys.executable, "-m", "checkpointer", "logs", "-f", "etcd", "--config", config]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        stand.node.runtime.kill(stand.node.running("etcd")[0].id, exit_code=3)
        assert process.stdout.readline() == "exit 3\n"
        assert process.wait(10) == 0
