"""A container's environment without references: what the kubelet would have computed.

A port of the part of K/kubelet_pods.go:makeEnvironmentVariables that needs the API: envFrom in
its order, then env; a later one wins; `optional` leaves out what is not there. Values from
references become literals, escaped where the kubelet would expand them. `$(NAME)` in the
parent's own values, and all that the kubelet can compute itself, is left to the kubelet.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any, Final

from checkpointer.core.facts import Fact, Unknown
from checkpointer.manifest.downward import substitute, told_without_address
from checkpointer.manifest.expansion import escape, unset_references
from checkpointer.manifest.formats import is_env_name
from checkpointer.manifest.identity import Identity
from checkpointer.manifest.resource_fields import requested
from checkpointer.manifest.sources import PLACEHOLDER, ApiObject, Options, Sources
from checkpointer.manifest.verdict import Ledger
from checkpointer.values import dataclass

_CONFIG_MAP: Final = "config map"
_SECRET: Final = "secret"  # noqa: S105 - the name of a kind
_HOST: Final = "KUBERNETES_SERVICE_HOST"
_PORT: Final = "KUBERNETES_SERVICE_PORT"
_SERVICE_PORT: Final = "443"
"""The port of the service `kubernetes`, which the kubelet would have told."""
_RELAXED_NAMES: Final = (1, 32)
"""The kubelet from which on names that are no C identifiers are taken (RelaxedEnvironment-
VariableValidation); before, the kubelet skips them and its validation refuses them."""

_OPT_IN: Final = (
    'annotate the pod with checkpointer.alpha.coreos.com/inline-secrets: "true", or allow its '
    "namespace in the configuration; or mount the secret as a volume instead"
)


@dataclass(frozen=True, slots=True)
class EnvironmentMaker:
    """Makes environments of one pod's containers."""

    identity: Identity
    sources: Sources
    options: Options
    ledger: Ledger
    parent: Mapping[str, Any]
    """The parent's spec, as it was."""

    def inline(self, container: dict[str, Any], path: str) -> None:
        """Replace `env` and `envFrom` of a container by an `env` without API references."""
        literals: dict[str, str] = {}
        for index, source in enumerate(container.pop("envFrom", ())):
            self._take_source(source, literals, f"{path}.envFrom[{index}]")
        entries = [{"name": name, "value": escape(literals[name])} for name in sorted(literals)]
        for index, entry in enumerate(container.get("env", ())):
            kept = self._take_entry(entry, container.get("name", ""), f"{path}.env[{index}]")
            if kept is not None:
                entries.append(kept)
        entries = self._with_service(entries, path)
        container.pop("env", None)
        if entries:
            container["env"] = entries

    def _take_source(self, source: Mapping[str, Any], literals: dict[str, str], path: str) -> None:
        for field, kind in (("configMapRef", _CONFIG_MAP), ("secretRef", _SECRET)):
            reference = source.get(field)
            if reference is not None:
                values = self._all_values(kind, reference, path)
                if values is not None:
                    self._add_values(values, source.get("prefix") or "", literals, path)

    def _all_values(
        self, kind: str, reference: Mapping[str, Any], path: str
    ) -> Mapping[str, str] | None:
        """Return what envFrom takes from one object; None when there is nothing to take."""
        name = reference.get("name") or ""
        fact = self._fact(kind, name)
        if isinstance(fact, Unknown):
            if self.options.placeholders and self._may_publish(kind, name, path):
                self.ledger.change(path, "dropped", f"the variables of {kind} {name} are not known")
                self.ledger.warn(path, f"the variables of {kind} {name} are known only on a node")
            elif not self.options.placeholders:
                self._refuse_unknown(kind, name, fact, path)
            return None
        if fact.value is None:
            self._meet_absence(f"{kind} {name}", reference, path)
            return None
        if not self._may_publish(kind, name, path):
            return None
        values = self._decode(kind, name, fact.value, path)
        self.ledger.change(path, "rewritten", f"{len(values)} variables of {kind} {name} inlined")
        return values

    def _add_values(
        self, values: Mapping[str, str], prefix: str, literals: dict[str, str], path: str
    ) -> None:
        for key, value in values.items():
            name = prefix + key
            if is_env_name(name) or self._takes_any_name():
                literals[name] = value
            else:
                self.ledger.warn(
                    path,
                    f"the variable {name} is left out: kubelets before 1.32 skip such names",
                    "rename the key",
                )

    def _take_entry(
        self, entry: dict[str, Any], container: str, path: str
    ) -> dict[str, Any] | None:
        """Return the entry as it can stay, or None when the kubelet would leave it out."""
        name = entry.get("name", "")
        if not is_env_name(name) and not self._takes_any_name():
            self.ledger.warn(
                f"{path}.name", "kubelets before 1.32 refuse this name", "rename the variable"
            )
        source = entry.get("valueFrom")
        if source is None or entry.get("value"):
            return entry
        for field, kind in (("configMapKeyRef", _CONFIG_MAP), ("secretKeyRef", _SECRET)):
            if field in source:
                value = self._one_value(kind, source[field], f"{path}.valueFrom.{field}")
                return None if value is None else {"name": name, "value": escape(value)}
        field, literal = self._own_field(source, container)
        if literal is None:
            self._warn_of_address(field, f"{path}.valueFrom")
            return entry
        self.ledger.change(
            f"{path}.valueFrom", "substituted", f"the parent's {field}: the copy's differs"
        )
        return {"name": name, "value": escape(literal)}

    def _own_field(self, source: Mapping[str, Any], container: str) -> tuple[str, str | None]:
        """Return the field that the downward API tells, and the parent's value if it differs."""
        reference = source.get("resourceFieldRef")
        if reference is not None:
            is_told = self.options.request_policy == "none"
            literal = requested(reference, container, self.parent) if is_told else None
            return reference.get("resource") or "", literal
        field_path = (source.get("fieldRef") or {}).get("fieldPath", "")
        return field_path, substitute(field_path, self.identity)

    def _warn_of_address(self, field_path: str, path: str) -> None:
        if not self.options.has_cloud_address:
            return
        outcome = told_without_address(field_path, bool(self.parent.get("hostNetwork")))
        if outcome is not None:
            self.ledger.warn(
                path,
                "this node's kubelet seems to have its address from a cloud provider: started "
                f"while the API is away it knows none, and {outcome}",
                "start the kubelet with --node-ip",
            )

    def _one_value(self, kind: str, reference: Mapping[str, Any], path: str) -> str | None:
        """Return the value of one key; None when it is left out, or refused."""
        name, key = reference.get("name") or "", reference.get("key") or ""
        fact = self._fact(kind, name)
        if isinstance(fact, Unknown):
            if not self._may_publish(kind, name, path):
                return None
            if self.options.placeholders:
                self.ledger.change(path, "rewritten", f"key {key} of {kind} {name} inlined")
                return PLACEHOLDER.format(f"key {key} of {kind} {name}")
            self._refuse_unknown(kind, name, fact, path)
            return None
        if fact.value is None:
            self._meet_absence(f"{kind} {name}", reference, path)
            return None
        if key not in (fact.value.get("data") or {}):
            self._meet_absence(f"key {key} of {kind} {name}", reference, path)
            return None
        if not self._may_publish(kind, name, path):
            return None
        self.ledger.change(path, "rewritten", f"key {key} of {kind} {name} inlined")
        return self._decode(kind, name, {"data": {key: fact.value["data"][key]}}, path).get(key)

    def _meet_absence(self, what: str, reference: Mapping[str, Any], path: str) -> None:
        if reference.get("optional"):
            self.ledger.change(path, "dropped", f"{what} does not exist and is optional")
        else:
            self.ledger.refuse(path, f"{what} does not exist: the container cannot start")

    def _fact(self, kind: str, name: str) -> Fact[ApiObject | None]:
        sources = self.sources
        return sources.config_map(name) if kind is _CONFIG_MAP else sources.secret(name)

    def _refuse_unknown(self, kind: str, name: str, fact: Unknown, path: str) -> None:
        self.ledger.refuse(path, f"{kind} {name}: {fact.reason}")

    def _may_publish(self, kind: str, name: str, path: str) -> bool:
        """Tell whether values may be written out; refuses a secret's without an opt-in."""
        if kind is _CONFIG_MAP or self.options.inline_secrets:
            return True
        self.ledger.refuse(
            path,
            f"the value of secret {name} would be readable for all who may read pods: a static "
            "pod can only have it written into its manifest, and its mirror pod shows that",
            _OPT_IN,
        )
        return False

    def _decode(self, kind: str, name: str, source: ApiObject, path: str) -> dict[str, str]:
        """Return the data as texts; a secret's bytes must be UTF-8 to be in a manifest."""
        data: Mapping[str, str] = source.get("data") or {}
        if kind is _CONFIG_MAP:
            return {key: value or "" for key, value in data.items()}
        texts: dict[str, str] = {}
        for key, value in data.items():
            try:
                texts[key] = binascii.a2b_base64(value or "").decode("utf-8")
            except ValueError:
                self.ledger.refuse(
                    path,
                    f"key {key} of secret {name} is not text: it cannot be in a manifest",
                    "mount the secret as a volume instead",
                )
        return texts

    def _takes_any_name(self) -> bool:
        version = self.options.kubelet_version
        return version is not None and version >= _RELAXED_NAMES

    def _with_service(self, entries: list[dict[str, Any]], path: str) -> list[dict[str, Any]]:
        """Return them with KUBERNETES_SERVICE_HOST and _PORT as the parent had them.

        The kubelet injects the API's service into every container, whatever enableServiceLinks
        says (getServiceEnvVarMap), and expands references from it, too: a variable that the
        container sets itself is its own only from there on. So ours go first.
        """
        if self.options.service_host is None:
            return entries
        names = [entry.get("name") for entry in entries]
        early = unset_references(entries)
        ours = {
            _HOST: self.options.service_host,
            _PORT: self.options.service_port or _SERVICE_PORT,
        }
        is_ours = {name: name not in names for name in ours}
        if not is_ours[_HOST] and _HOST not in early and _PORT not in early:
            ours[_PORT] = _SERVICE_PORT
        elif not is_ours[_HOST] and is_ours[_PORT]:  # ours is up to where the pod sets its own host
            index = names.index(_HOST) + 1
            port = {"name": _PORT, "value": _SERVICE_PORT}
            entries = [*entries[:index], port, *entries[index:]]
        added = [
            {"name": name, "value": value}
            for name, value in ours.items()
            if is_ours[name] or name in early
        ]
        if added:
            self.ledger.change(
                f"{path}.env", "added", "where to find the API: offline the kubelet cannot tell"
            )
        return added + entries
