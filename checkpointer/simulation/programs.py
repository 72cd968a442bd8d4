"""What the simulated images do when they run: nothing, listen on a port, or fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class Program:
    """What a container of one image does.

    A program that cannot read one of the paths in `needs` through its mounts, or does not get
    its ports, ends at once with exit code 1, as the real ones do.
    """

    ports: tuple[int, ...] = ()
    """TCP ports it listens on, in the network of its pod."""
    needs: tuple[str, ...] = ()
    """Paths inside the container that must be readable, non-empty files."""
    start_seconds: float = 0.0
    """From its start until it is ready."""
    stop_seconds: float = 0.1
    """From SIGTERM to its end, if the grace is as long."""
    runs_seconds: float | None = None
    """It ends by itself after so long, with `exit_code`; None: it runs for ever."""
    exit_code: int = 0


BROKEN = Program(runs_seconds=0.0, exit_code=2)
"""An image that fails at once."""

_IDLE = Program()


@dataclass(slots=True)
class Programs:
    """Programs by image: by its whole name first, then by its last part without the tag."""

    by_image: dict[str, Program] = field(default_factory=dict)

    def of(self, image: str) -> Program:
        """Return the program of the image: one that just runs, unless told otherwise."""
        return self.by_image.get(image) or self.by_image.get(base_name(image)) or _IDLE


def base_name(image: str) -> str:
    """Return `kube-apiserver` of `registry.k8s.io/kube-apiserver:v1.36.2`."""
    return image.rsplit("/", 1)[-1].split("@", 1)[0].split(":", 1)[0]


def host_path(mounts: Mapping[str, str], path: str) -> str | None:
    """Return where a path inside a container lies on the host, by the longest mount above it."""
    for mounted in sorted(mounts, key=len, reverse=True):
        if path == mounted or path.startswith(mounted.rstrip("/") + "/"):
            return mounts[mounted] + path[len(mounted.rstrip("/")) :]
    return None
