"""Log files of simulated containers, in the format of the CRI (logging.md of the kubelet)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from checkpointer.simulation.runtime_records import ContainerRecord


def write_line(container: ContainerRecord, text: str) -> None:
    """Append a line that the container wrote to its standard output, if it has a log file."""
    if not container.config.log_path:
        return
    path = Path(container.config.log_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
    with path.open("a") as file:
        file.write(f"{now} stdout F {text}\n")
