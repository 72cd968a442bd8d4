"""The status of a node whose agent does not answer: from its disk and its runtime alone.

The sources are asked once, as the agent asks them, and nothing is decided: what a checkpoint waits
for is the agent. Nothing here waits longer than the deadline it is given, whatever hangs.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from checkpointer import __version__
from checkpointer.config import Config
from checkpointer.core.checkpoint import choose_revision
from checkpointer.core.contact import Contact, ContactState
from checkpointer.core.facts import Known, Unknown
from checkpointer.core.hold import HELD, hold_of
from checkpointer.core.moment import Moment
from checkpointer.core.observation import Itself, Observation
from checkpointer.core.standing import Standing
from checkpointer.core.workload import Workload
from checkpointer.manifest.render import mark_of
from checkpointer.node.agent_lock import find_agent
from checkpointer.node.kubelet import Kubelet, read_moment
from checkpointer.node.patient_manifests import PatientManifestFolder
from checkpointer.report.details import DetailsReader
from checkpointer.report.hand_overs import hand_over_status
from checkpointer.report.status import (
    UNKNOWN,
    AgentStatus,
    ContactStatus,
    Cycle,
    Status,
    build_status,
    serving_revisions,
)
from checkpointer.store.own import own_workload
from checkpointer.store.revisions import Store
from checkpointer.troubles import troubles
from checkpointer.values import replace

if TYPE_CHECKING:
    from checkpointer.node.inquiry import Inquiry

NOT_RUNNING = "the agent is not running"
SILENT = "the agent runs but does not answer"

FOLDER_SECONDS = 1.0
"""How long the manifest folder may take."""


def offline_status(config: Config, inquiry: Inquiry) -> Status:
    """Return what disk and runtime tell now. Raises nothing that a broken node could cause.

    The runtime has been asked before: it is waited for last.
    """
    store = Store(config.store_directory)
    now = read_moment(config.boot_id_file)
    is_silent = _is_agent_there(config)
    why = SILENT if is_silent else NOT_RUNNING
    stored = store.read()
    folder = PatientManifestFolder(config.manifest_directory, mark_of, FOLDER_SECONDS).observe()
    kubelet = Kubelet(config.kubelet_directory).run(now.boot_id)
    runtime = inquiry.answer()
    seen = Observation(
        contact=Contact(ContactState.SUSPECT, now.monotonic, why),
        pods=Unknown(why),
        runtime=runtime,
        kubelet=kubelet,
        manifests=Known(folder.value.ours) if isinstance(folder, Known) else folder,
        checkpoints=Known(stored.value.checkpoints) if isinstance(stored, Known) else stored,
        itself=_itself(store),
    )
    cycle = Cycle(
        seen,
        _standings(seen, now, f"the agent: {why}"),
        f"{why}: read from disk and runtime",
        now,
        problems=troubles(folder, runtime, stored),
    )
    status = build_status(
        AgentStatus(
            config.node_name or socket.gethostname().lower(), __version__, is_silent=is_silent
        ),
        ContactStatus(UNKNOWN, why),
        cycle,
        verdicts={},
        details=DetailsReader(store).read(serving_revisions(seen)),
    )
    return replace(status, cycle_at=None, cycle_seconds=None)  # there was none


def _is_agent_there(config: Config) -> bool:
    """Tell whether somebody holds the agent's lock: one that hangs, or has only just started."""
    found = find_agent(config.lock_file)
    return isinstance(found, Known) and found.value.is_held


def _itself(store: Store) -> Itself | None:
    """Return whose pods the agent's were when it last ran; no pod of it is known to run."""
    own = own_workload(store)
    return Itself(own, "") if own is not None else None


def _standings(seen: Observation, now: Moment, waits_for: str) -> Mapping[Workload, Standing]:
    """Return where each checkpoint stands by what lies on disk."""
    if isinstance(seen.manifests, Unknown):
        return {}
    active = {m.workload for m in seen.manifests.value}
    standings = {w: Standing("active", waits_for) for w in active}
    for checkpoint in seen.checkpoints.value if isinstance(seen.checkpoints, Known) else ():
        if checkpoint.workload in active:
            continue
        if choose_revision(checkpoint) is None:
            standing = Standing("unusable", "no stored revision verifies")
        elif (way := hand_over_status(checkpoint.record.hand_over, now)) and way.to:
            standing = Standing("handing over", waits_for)
        else:
            standing = Standing("standby", waits_for)
        standings[checkpoint.workload] = standing
    for checkpoint in seen.checkpoints.value if isinstance(seen.checkpoints, Known) else ():
        if (hold := hold_of(checkpoint, now)) is not None:
            standings[checkpoint.workload] = Standing(HELD, f"its hold to be lifted ({hold})")
    return standings
