"""The agent's log: one line per change, as text or JSON, on standard error.

Nothing that is logged is taken from a secret: messages name objects, never their values. What a
library's exception says is not ours to trust: of those only kind and place are logged. Nor are
names: none ends a line, moves a terminal's cursor or looks like an entry of its own.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback

from checkpointer.errors import CheckpointerError, printable, printable_json


class _JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1]:
            line["exception"] = _told(record.exc_info[1])
        return printable_json(json.dumps(line, ensure_ascii=False))


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_timestamp(record)} {record.levelname:<7} {printable(record.getMessage())}"
        if record.exc_info and record.exc_info[1]:
            line += f"\n{_told(record.exc_info[1])}"
        return line


def configure(level: str, form: str) -> None:
    """Send our own log to standard error; libraries only speak up from a warning on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JSONFormatter() if form == "json" else _TextFormatter())
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("checkpointer").setLevel(level.upper())
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def _timestamp(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _told(error: BaseException) -> str:
    """Return an exception and what it came from, each by its place and kind."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [_told(before), "which led to:"] if before is not None else []
    message = f": {printable(str(error))}" if isinstance(error, CheckpointerError) else ""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return "\n".join((*lines, f"{frames}{type(error).__name__}{message}"))
