"""Pods of the real world and what the sanitizer makes of them, side by side in `golden/`.

Each `NAME.input.json` is a pod as the API returns it, with what the API says about its sources;
`NAME.output.json` is the whole verdict. After a deliberate change, write the outputs anew and
read the difference:

    .venv/bin/python tests/unit/manifest/golden_pods.py
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from checkpointer.core.facts import Known
from checkpointer.manifest.sanitize import BoundClaim, Options, Sources, sanitize
from checkpointer.manifest.verdict import Verdict

FOLDER = Path(__file__).parent / "golden"
ROOT = "/etc/kubernetes/checkpointer/material"
NAMES = sorted(path.name.removesuffix(".input.json") for path in FOLDER.glob("*.input.json"))


def load(name: str) -> tuple[dict[str, Any], Sources, Options]:
    """Read one input: the pod, its sources and the node's options."""
    case = json.loads((FOLDER / f"{name}.input.json").read_text())
    sources = case["sources"]
    claims = {
        key: Known(None if claim is None else BoundClaim(claim["claim"], claim["volume"]))
        for key, claim in sources.get("claims", {}).items()
    }
    return (
        case["pod"],
        Sources(
            {key: Known(value) for key, value in sources.get("config_maps", {}).items()},
            {key: Known(value) for key, value in sources.get("secrets", {}).items()},
            claims,
        ),
        Options(**case["options"]),
    )


def sanitized(name: str) -> Verdict:
    """Sanitize one input."""
    pod, sources, options = load(name)
    return sanitize(pod, ROOT, sources, options)


def described(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as the JSON of an output file."""
    found = asdict(verdict) | {"workload": verdict.workload._asdict()}
    described: dict[str, Any] = json.loads(json.dumps(found, default=lambda o: o.value))
    return described


def expected(name: str) -> dict[str, Any]:
    """Read one output."""
    output: dict[str, Any] = json.loads((FOLDER / f"{name}.output.json").read_text())
    return output


if __name__ == "__main__":
    for name in NAMES:
        text = json.dumps(described(sanitized(name)), indent=1, sort_keys=True)
        (FOLDER / f"{name}.output.json").write_text(text + "\n")
