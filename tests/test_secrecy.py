"""The search for planted secrets finds them: a leak fails the test that leaks."""

from __future__ import annotations

import base64

import pytest

from checkpointer.simulation.planted import PLANTED
from tests.secrecy import Secrecy, forms_of

pytest_plugins = ("pytester",)

LEAKS = {
    "stdout": "print(SECRET)",
    "stderr": "print(SECRET, file=sys.stderr)",
    "log": "logging.getLogger('x').warning('it is %s', SECRET)",
    "log_that_nobody_captures": "caplog.clear() or logging.getLogger('x').warning(SECRET)\n"
    "    caplog.clear()",
    "traceback": """
    try:
        raise ApiError(SECRET)
    except ApiError:
        logging.getLogger("x").exception("failed")
""",
    "output_that_the_test_reads": "print(SECRET)\n    capsys.readouterr()",
    "output_of_a_process": "subprocess.run([sys.executable, '-c', f'print({SECRET!r})'],"
    " capture_output=True)",
    "base64": "print(base64.b64encode(SECRET.encode()).decode())",
    "base64_amid_more": "print(base64.b64encode(b'ab' + SECRET.encode() + b'c').decode())",
    "log_of_a_node": "node(tmp_path).agent.log.write_text(SECRET)\n    close()",
    "log_of_agents": "(node(tmp_path).folder / 'agents.log').write_text(SECRET)\n    close()",
    "journal": """
    folder = node(tmp_path).store_folder / '.state'
    folder.mkdir(parents=True)
    (folder / 'journal.jsonl').write_text(SECRET)
    close()
""",
    "event": "node(tmp_path).cluster.create('events', "
    "{'metadata': {'name': 'e'}, 'note': SECRET})\n    close()",
}

MODULE = """
import base64, logging, subprocess, sys
from checkpointer.errors import ApiError
from checkpointer.simulation.node import SimulatedNode
from checkpointer.simulation.planted import PLANTED as SECRET

nodes = []

def node(folder):
    nodes.append(SimulatedNode(folder))
    return nodes[-1]

def close():
    # Of a node that was never started only the last step of closing can be taken.
    made = nodes.pop()
    made.controllers.start()
    made.close()
"""


def run(pytester: pytest.Pytester, *arguments: str, **bodies: str) -> pytest.RunResult:
    """Run tests of these bodies and a silent one under the plugin, in a process of their own."""
    tests = [
        f"def test_{name}(capsys, caplog, tmp_path):\n    {body}\n"
        for name, body in {**bodies, "silent": "print('nothing')"}.items()
    ]
    pytester.makepyfile("\n".join([MODULE, *tests]))
    return pytester.runpytest_subprocess("-p", "tests.secrecy", "-v", *arguments)


@pytest.fixture(autouse=True)
def importable(pytester: pytest.Pytester, pytestconfig: pytest.Config, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))


@pytest.mark.shows_secrets
def test_a_leak_fails_the_test_that_leaks(pytester: pytest.Pytester) -> None:
    """Wherever the secret comes out, and only that test."""
    result = run(pytester, **LEAKS)
    for name in LEAKS:
        result.stdout.fnmatch_lines_random([f"*::test_{name} FAILED*"])
    assert result.parseoutcomes() == {"failed": len(LEAKS), "passed": 1}
    result.stdout.fnmatch_lines(["*a planted secret appears in: *"])


@pytest.mark.shows_secrets
def test_a_leak_is_found_in_a_worker_of_xdist(pytester: pytest.Pytester) -> None:
    """The suite runs in several processes."""
    result = run(pytester, "-n", "2", stdout=LEAKS["stdout"])
    assert result.parseoutcomes() == {"failed": 1, "passed": 1}


def test_no_leak_no_failure(pytester: pytest.Pytester) -> None:
    """A secret that stays where it belongs is no leak."""
    result = run(pytester, kept="tmp_path.joinpath('f').write_text(SECRET)")
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("after", range(4))
def test_base64_is_recognised_at_every_offset(before: int, after: int) -> None:
    """The same bytes have three encodings, by where they begin."""
    text = b"\xff" * before + PLANTED.encode() + b"\xfe" * after
    for encoded in (base64.b64encode(text), base64.urlsafe_b64encode(text)):
        assert sum(form in encoded for form in forms_of(PLANTED.encode())) >= 1
        secrecy = Secrecy()
        secrecy.see("here", base64.b64encode(b"x" * before + encoded))
        assert secrecy.take() == ("here",)
    assert not any(form in base64.b64encode(b"\0" * 64) for form in forms_of(PLANTED.encode()))
