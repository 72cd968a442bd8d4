"""The status as a page for people: one HTML document that needs nothing else.

No script, no outside resource; it fetches itself again every few seconds. Everything that is not
written here is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

from checkpointer.report.spans import age, size

REFRESH_SECONDS = 10

HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
)

_STYLE = """
:root { color-scheme: light dark; --good: #1a7f37; --warn: #9a6700; --bad: #cf222e;
  --line: #8883; --dim: #777; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --warn: #d29922; --bad: #ff7b72;
  --dim: #999; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
p { margin: .2rem 0; } .dim { color: var(--dim); } .good { color: var(--good); }
.warn { color: var(--warn); } .bad { color: var(--bad); }
.contact { border-left: .4rem solid; padding: .3rem .8rem; margin: 1rem 0; }
.contact strong { font-size: 1.15rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; white-space: nowrap; } td.number { font-variant-numeric: tabular-nums; }
td:nth-child(1), td:nth-child(5), td:nth-child(6), td:nth-child(8), td:nth-child(9) {
  white-space: nowrap; }
ul { margin: .2rem 0; padding-left: 1.2rem; }
"""

_CONTACT = {"reachable": "good", "suspect": "warn", "lost": "bad", "denied": "bad"}
_STATE = dict.fromkeys(("active", "waiting", "handing over", "held", "frozen"), "warn")


def page(document: Mapping[str, Any], now: float | None = None) -> bytes:
    """Return the page of a status document; `now` is in seconds of the Unix epoch."""
    moment = datetime.now(UTC) if now is None else datetime.fromtimestamp(now, UTC)
    node = escape(document["node"])
    parts = [
        f"<h1>{node}</h1>",
        _about(document, moment),
        _contact(document["contact"], moment),
        f"<p>{escape(document['cycle']['sentence'])}</p>" if document["cycle"]["sentence"] else "",
        _problems(document),
        _checkpoints(document["checkpoints"], moment),
        _refused(document["notCheckpointable"]),
        _unprotected(document["unprotected"]),
    ]
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{node}: checkpoints</title><style>{_STYLE}</style></head>\n"
        f"<body>{''.join(parts)}</body></html>\n"
    )
    return text.encode(errors="replace")


def when(then: str | None, now: datetime) -> str:
    """Return how long ago, or in how long, a time is: `3m20s ago`, `in 5d`."""
    if then is None:
        return "never"
    seconds = (now - datetime.fromisoformat(then)).total_seconds()
    return f"in {age(-seconds)}" if seconds < 0 else f"{age(seconds)} ago"


def _about(document: Mapping[str, Any], now: datetime) -> str:
    agent = document["agent"]
    mode = " (dry run)" if agent["dryRun"] else ""
    text = (
        f"pod-checkpointer {agent['version']}{mode}, process {agent['pid']}, started "
        f"{when(agent['startedAt'], now)}; last cycle {when(document['cycle']['time'], now)}"
    )
    if kubelet := document["kubelet"]:
        state = "running," if kubelet["listening"] else "down: it does not listen, was"
        text += f"; kubelet {state} started {when(kubelet['startedAt'], now)}"
    return f'<p class="dim">{escape(text)}</p>'


def _contact(contact: Mapping[str, Any], now: datetime) -> str:
    colour = _CONTACT.get(contact["state"], "bad")
    since = f"since {contact['since']} ({when(contact['since'], now)})" if contact["since"] else ""
    cause, seen = contact["cause"], contact["reason"]
    why = cause if cause == seen else f"{cause}; now: {seen}"
    again = "; it answers again" if contact["answering"] and colour == "bad" else ""
    return (
        f'<div class="contact {colour}"><strong>API {escape(contact["state"])}</strong> '
        f"{escape(since)}<br>{escape(why)}{again}; "
        f"last answer {escape(when(contact['lastAnswer'], now))}</div>"
    )


def _problems(document: Mapping[str, Any]) -> str:
    told = [f"{one['source']}: not known: {one['reason']}" for one in document["unknown"]]
    told += [one for one in document["problems"] if not any(one in line for line in told)]
    if not told:
        return ""
    return f'<h2>Problems</h2><div class="warn">{_list(told)}</div>'


def _checkpoints(checkpoints: Iterable[Mapping[str, Any]], now: datetime) -> str:
    rows = "".join(_checkpoint(one, now) for one in checkpoints)
    if not rows:
        return "<h2>Checkpoints</h2><p>None: a reboot without the API brings nothing back.</p>"
    names = (
        *("Workload", "State", "Runs", "Waits for", "Revision"),
        *("Taken", "Verdict", "Material", "Token"),
    )
    head = "".join(f"<th>{name}</th>" for name in names)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<h2>Checkpoints</h2><div class="wide">{table}</div>'


def _checkpoint(one: Mapping[str, Any], now: datetime) -> str:
    is_well = one["state"] == ("active" if one["itself"] else "standby")
    colour = "good" if is_well else _STATE.get(one["state"], "bad")
    state = f'<span class="{colour}">{escape(one["state"])}</span>'
    if one["activeSince"]:
        state += f'<br><span class="dim">{escape(when(one["activeSince"], now))}</span>'
    if one["hold"] and one["hold"] not in one["waitsFor"]:
        state += f'<br><span class="warn">held: {escape(one["hold"])}</span>'
    verdict = escape(one["verdict"] or "not judged yet")
    if notes := [*one["warnings"], *one["problems"]]:
        verdict += f'<div class="dim">{_list(notes)}</div>'
    stage = "" if one["stage"] is None else f'<br><span class="dim">stage {one["stage"]}</span>'
    cells = (
        f"{escape(one['namespace'])}/{escape(one['name'])}"
        f'<br><span class="dim">{escape(one["kind"])}</span>',
        state,
        escape(_or_dash(one["runs"])),
        escape(one["waitsFor"]),
        f"{_or_dash(one['revision'])}{stage}" + _good(one) + _failed(one["failedRevisions"]),
        escape(when(one["revisionTakenAt"], now)) if one["revisionTakenAt"] else "-",
        verdict,
        size(one["materialBytes"]),
        escape(when(one["tokenExpiry"], now)) if one["tokenExpiry"] else "-",
    )
    return "<tr>" + "".join(f'<td class="number">{cell}</td>' for cell in cells) + "</tr>"


def _good(one: Mapping[str, Any]) -> str:
    return f'<br><span class="dim">good: {one["lastKnownGood"] or "none yet"}</span>'


def _failed(numbers: Iterable[int]) -> str:
    told = ", ".join(map(str, numbers))
    return f'<br><span class="bad">failed: {told}</span>' if told else ""


def _refused(refused: Iterable[Mapping[str, Any]]) -> str:
    told = [f"{one['namespace']}/{one['pod']}: {'; '.join(one['reasons'])}" for one in refused]
    if not told:
        return ""
    return f'<h2>Selected, not checkpointable</h2><div class="bad">{_list(told)}</div>'


def _unprotected(unprotected: Iterable[Mapping[str, Any]]) -> str:
    told = [f"{o['namespace']}/{o['kind'].lower()}/{o['name']}: {o['reason']}" for o in unprotected]
    if not told:
        return ""
    return f'<h2>Would not come back without the API</h2><div class="bad">{_list(told)}</div>'


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _or_dash(value: int | str | None) -> str:
    return "-" if value is None else str(value)
