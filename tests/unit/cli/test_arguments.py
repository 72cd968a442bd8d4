"""Wrong arguments: refused at once, with what was expected, and nothing is done."""

from __future__ import annotations

import pytest

from checkpointer.__main__ import main


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "required: COMMAND"),
        ("statsu", "invalid choice: 'statsu'"),
        ("status extra", "unrecognized arguments: extra"),
        ("status -o xml", "invalid choice: 'xml'"),
        ("status --watch soon", "soon: expected seconds, or a duration such as 500ms"),
        ("status --watch inf", "inf: expected seconds"),
        ("show", "required: WORKLOAD"),
        ("activate web --for 5x", "5x: expected a duration"),
        ("activate web --for 0s", "0s: expected more than nothing, such as 30s or 2h"),
        ("release web --timeout -", "-: expected a duration"),
        ("gc --keep 0", "0: expected a number, 1 or more"),
        ("history -n x", "x: expected a number, 0 or more"),
        ("history --since 1y", "1y: expected a duration"),
        ("logs etcd --tail all", "all: expected a number of lines"),
        ("doctor --timeout 0s", "0s: expected a duration"),
        ("completion tcsh", "invalid choice: 'tcsh'"),
    ],
)
def test_wrong_usage_says_what_was_expected(
    line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hold of no time would last for ever, a keep of none would keep the default."""
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
