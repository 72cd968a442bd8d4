"""From plain values to what the agent's parts take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from checkpointer.config import Config, ConfigError, SelectionConfig, ServiceConfig
from checkpointer.manifest.select import (
    DEFAULT_STAGE_RULES,
    LabelSelector,
    Requirement,
    Selection,
    StageRule,
)
from checkpointer.settings import check, selection, snapshot_settings, stage_rules


def test_defaults_are_the_defaults() -> None:
    """An empty list that restricts allows everything, but for the namespaces."""
    assert selection(SelectionConfig()) == Selection()
    assert stage_rules(None) == DEFAULT_STAGE_RULES
    assert selection(SelectionConfig(namespaces=())).namespaces == ()


def test_selector_is_as_in_the_api() -> None:
    """Labels and expressions are taken over, sorted by label."""
    value = {
        "matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["x", "y"]},
            {"key": "d", "operator": "Exists"},
        ],
    }
    (found,) = selection(SelectionConfig(label_selectors=(value,))).selectors
    assert found == LabelSelector(
        (("a", "1"), ("b", "2")),
        (Requirement("c", "In", ("x", "y")), Requirement("d", "Exists")),
    )


def test_stage_rules_replace_the_defaults() -> None:
    """What is given counts alone, an empty list included."""
    assert stage_rules(()) == ()
    rule = {"namespaces": ["edge"], "names": ["vip-*"], "selector": {"matchLabels": {"a": "b"}}}
    assert stage_rules((rule,)) == (
        StageRule(0, ("edge",), ("vip-*",), LabelSelector((("a", "b"),))),
    )


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"matchLabels": ["a"]}, ".matchLabels: expected a mapping of texts"),
    ({"matchLabels": {"a": 1}}, ".matchLabels: expected a mapping of texts"),
    ({"matchLabels": {1: "a"}}, ".matchLabels: expected a mapping of texts"),
    ({"matchExpressions": {"a": 1}}, ".matchExpressions: expected a list"),
    ({"matchExpressions": ["a"]}, ".matchExpressions[0]: expected a mapping"),
    ({"matchExpressions": [{"key": "a", "operator": "Is"}]}, ".matchExpressions[0].operator: "),
    ({"matchExpressions": [{"operator": "Exists"}]}, ".matchExpressions[0].key: "),
    ({"matchExpressions": [{"key": "a", "operator": "In"}]}, ".matchExpressions[0].values: "),
    (
        {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]},
        ".matchExpressions[0].values: ",
    ),
    (
        {"matchExpressions": [{"key": "a", "operator": "In", "values": [1]}]},
        ".matchExpressions[0].values: expected a list of texts",
    ),
    (
        {"matchExpressions": [{"key": "a", "operator": "In", "values": "b"}]},
        ".matchExpressions[0].values: expected a list of texts",
    ),
    ({"matchLabel": {}}, ".matchLabel: no such setting"),
]


@pytest.mark.parametrize(("value", "expected"), WRONG)
def test_wrong_selector_is_named_by_its_place(value: dict[str, Any], expected: str) -> None:
    """Deep in a list, the message still leads to the place."""
    for config, prefix in (
        (
            Config(selection=SelectionConfig(label_selectors=({}, value))),
            "selection.labelSelectors[1]",
        ),
        (Config(stage_zero=({"selector": value},)), "stageZero[0].selector"),
    ):
        with pytest.raises(ConfigError) as caught:
            check(config)
        assert caught.value.problems[0].startswith(prefix + expected)


@pytest.mark.parametrize(
    ("server", "service", "host", "port"),
    [
        ("https://10.0.0.1:6443", ServiceConfig(), "10.0.0.1", "6443"),
        ("https://[fd00::1]:6443", ServiceConfig(), "fd00::1", "6443"),
        ("https://api.example", ServiceConfig(), "api.example", "443"),
        ("https://10.0.0.1:6443", ServiceConfig("vip", 8443), "vip", "8443"),
        ("https://10.0.0.1:6443", ServiceConfig("vip"), "vip", "6443"),
        (None, ServiceConfig(), None, "443"),
    ],
)
def test_copies_find_the_api_without_kube_proxy(
    server: str | None, service: ServiceConfig, host: str | None, port: str
) -> None:
    """A copy is told an endpoint that needs no Service: the configured one, or the first."""
    found = snapshot_settings(replace(Config(), service=service), "node-1", server).options
    assert (found.service_host, found.service_port) == (host, port)


def test_paths_are_those_of_the_node() -> None:
    """What a snapshot goes by is the configuration's."""
    found = snapshot_settings(Config(), "node-1", None)
    assert (found.options.node_name, found.options.kubelet_dir) == ("node-1", "/var/lib/kubelet")
    assert (found.keep_revisions, found.max_material_bytes) == (4, 64 * 2**20)
