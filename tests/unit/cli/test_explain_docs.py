"""docs/explain.md shows what the command really prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[3] / "docs" / "explain.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
POD = next(text for kind, text in BLOCKS if kind == "yaml")
NAMED = "    - name: POD_NAME\n      valueFrom:\n        fieldRef: {fieldPath: metadata.name}\n"
SECRET = "    - name: TOKEN\n      valueFrom:\n        secretKeyRef: {name: gateway, key: token}\n"


@pytest.mark.parametrize("block", [text for kind, text in BLOCKS if kind == "console"])
def test_outputs_in_the_documentation_are_real(block: str, tmp_path: Path) -> None:
    """Each command, run in a shell next to the files that the text speaks of."""
    assert NAMED in POD
    (tmp_path / "gateway.yaml").write_text(POD)
    (tmp_path / "gateway-with-token.yaml").write_text(POD.replace(NAMED, SECRET))
    command, expected = block.removeprefix("$ ").split("\n", 1)
    done = subprocess.run(  # noqa: S602 - as the reader does
        re.sub("^checkpointer ", f"{sys.executable} -m checkpointer ", command),
        shell=True,
        cwd=tmp_path,
        env={**os.environ, "CHECKPOINTER_CONFIG": "/dev/null"},
        capture_output=True,
        text=True,
    )
    assert done.stdout + done.stderr == expected
