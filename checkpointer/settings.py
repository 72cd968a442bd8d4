"""From the configuration's plain values to what the parts of the agent take."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from checkpointer.config import Config, ConfigError, SelectionConfig
from checkpointer.manifest.select import (
    DEFAULT_STAGE_RULES,
    LabelSelector,
    Requirement,
    Selection,
    StageRule,
)
from checkpointer.manifest.sources import Options
from checkpointer.values import dataclass


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """What a snapshot goes by besides the pod."""

    options: Options
    stage_rules: tuple[StageRule, ...]
    secret_namespaces: tuple[str, ...]
    max_material_bytes: int
    keep_revisions: int
    pin_images: bool = False


_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def check(config: Config) -> None:
    """Check what `config.load` takes as plain mappings. Raises ConfigError that names the key."""
    selection(config.selection)
    stage_rules(config.stage_zero)


def selection(config: SelectionConfig) -> Selection:
    """Return which pods may be parents. Raises ConfigError that names the key."""
    return Selection(
        annotation=config.annotation,
        selectors=tuple(
            label_selector(value, f"selection.labelSelectors[{index}]")
            for index, value in enumerate(config.label_selectors)
        ),
        namespaces=config.namespaces,
        service_accounts=config.service_accounts or ("*",),
        owner_kinds=config.owner_kinds or ("*",),
        images=config.images or ("*",),
    )


def stage_rules(rules: tuple[dict[str, Any], ...] | None) -> tuple[StageRule, ...]:
    """Return the rules of stage 0. Raises ConfigError that names the key."""
    if rules is None:
        return DEFAULT_STAGE_RULES
    return tuple(_stage_rule(rule, f"stageZero[{index}]") for index, rule in enumerate(rules))


def snapshot_settings(config: Config, node_name: str, server: str | None) -> SnapshotSettings:
    """Return what snapshots go by; `server` is the API endpoint for copies without kube-proxy."""
    address = urlsplit(server or "")
    return SnapshotSettings(
        options=Options(
            node_name=node_name,
            kubelet_dir=str(config.kubelet_directory),
            service_host=config.service.host or address.hostname,
            service_port=str(config.service.port or address.port or 443),
            request_policy=config.snapshot.requests,
            annotations=config.snapshot.keep_annotations,
        ),
        stage_rules=stage_rules(config.stage_zero),
        secret_namespaces=config.snapshot.secret_environment_namespaces,
        max_material_bytes=config.snapshot.max_material_bytes,
        keep_revisions=config.snapshot.keep_revisions,
        pin_images=config.snapshot.pin_images,
    )


def label_selector(value: Any, key: str) -> LabelSelector:
    """Return a label selector as in the API. Raises ConfigError that names the key."""
    _only(value, ("matchLabels", "matchExpressions"), key)
    labels = value.get("matchLabels") or {}
    if not isinstance(labels, dict) or not all(
        isinstance(text, str) for pair in labels.items() for text in pair
    ):
        raise ConfigError([f"{key}.matchLabels: expected a mapping of texts"])
    expressions = value.get("matchExpressions") or []
    if not isinstance(expressions, list):
        raise ConfigError([f"{key}.matchExpressions: expected a list"])
    return LabelSelector(
        tuple(sorted(labels.items())),
        tuple(
            _requirement(expression, f"{key}.matchExpressions[{index}]")
            for index, expression in enumerate(expressions)
        ),
    )


def _requirement(value: Any, key: str) -> Requirement:
    _only(value, ("key", "operator", "values"), key)
    if value.get("operator") not in _OPERATORS:
        raise ConfigError([f"{key}.operator: expected {', '.join(_OPERATORS)}"])
    if not isinstance(value.get("key"), str):
        raise ConfigError([f"{key}.key: expected a label's name"])
    values = value.get("values") or []
    if bool(values) != (value["operator"] in ("In", "NotIn")):
        raise ConfigError([f"{key}.values: needed for In and NotIn, and for nothing else"])
    return Requirement(value["key"], value["operator"], _texts(values, f"{key}.values"))


def _stage_rule(value: Any, key: str) -> StageRule:
    _only(value, ("namespaces", "names", "selector"), key)
    return StageRule(
        stage=0,
        namespaces=_texts(value.get("namespaces") or [], f"{key}.namespaces"),
        names=_texts(value.get("names") or [], f"{key}.names"),
        selector=label_selector(value.get("selector") or {}, f"{key}.selector"),
    )


def _texts(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ConfigError([f"{key}: expected a list of texts"])
    return tuple(value)


def _only(value: Any, keys: tuple[str, ...], key: str) -> None:
    if not isinstance(value, dict):
        raise ConfigError([f"{key}: expected a mapping"])
    unknown = [k for k in value if k not in keys]
    if unknown:
        raise ConfigError([f"{key}.{k}: no such setting" for k in unknown])
