"""Key Vault's secrets, as the real SecretClient calls them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local.certificates import Certificates
from local.simulators.faults import Reply, json_reply
from local.simulators.server import ReceivedRequest, Simulator, route

type VerifyForAudience = Callable[[str, str], dict[str, Any] | None]


@dataclass(frozen=True, slots=True)
class SecretVersion:
    value: str
    content_type: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    version: str = field(default_factory=lambda: secrets.token_hex(16))


class KeyVaultSimulator(Simulator):
    """`claims_of` says what a bearer token for this vault claims. `denied` holds "get" and "set"."""

    def __init__(self, certificates: Certificates, claims_of: VerifyForAudience, authority: str) -> None:
        super().__init__(certificates)
        self.denied: set[str] = set()
        self._claims_of = claims_of
        self._authority = authority
        self._secrets: dict[str, list[SecretVersion]] = {}
        self.routes = [
            route("GET", "/secrets/{name}", self._get),
            route("GET", "/secrets/{name}/versions", self._list_versions),
            route("GET", "/secrets/{name}/{version}", self._get),
            route("PUT", "/secrets/{name}", self._put),
        ]

    @property
    def resource(self) -> str:
        # The client wants the vault's host to be a subdomain of the resource, as 127.0.0.1 is of "0.0.1".
        return f"https://0.0.1:{self.port}"

    def set_secret(
        self, name: str, value: str, content_type: str | None = None, *, age: float = 0, **attributes: Any
    ) -> SecretVersion:
        """Stores a new version, as if `age` seconds ago. Other attributes: `exp` (Unix time), `enabled`."""
        then = int(time.time() - age)
        known = {"enabled": True, "created": then, "updated": then, "recoveryLevel": "Recoverable+Purgeable"}
        version = SecretVersion(value, content_type, {**known, **attributes})
        self._store(name, version)
        return version

    def forget(self, name: str) -> None:
        """As if it had been deleted."""
        with self.lock:
            self._secrets.pop(name.lower(), None)

    def secret(self, name: str) -> str:
        return self.versions(name)[-1].value

    def versions(self, name: str) -> list[SecretVersion]:
        """Oldest first."""
        with self.lock:
            return list(self._secrets.get(name.lower(), []))

    def carry_out(self, request: ReceivedRequest) -> Reply:
        if self._claims_of(request.bearer, self.resource) is None:
            challenge = f'Bearer authorization="{self._authority}", resource="{self.resource}"'
            refusal = _error(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
            return Reply(401, refusal.body, {**refusal.headers, "WWW-Authenticate": challenge})
        operation = "set" if request.method == "PUT" else "get"
        if operation in self.denied:
            return _error(403, "Forbidden", f"Caller is not authorized to {operation} secrets.", "ForbiddenByRbac")
        return super().carry_out(request)

    def _get(self, request: ReceivedRequest, name: str, version: str | None = None) -> Reply:
        found = [it for it in self.versions(name) if version in (None, it.version)]
        if not found:
            return _not_found(name)
        if not found[-1].attributes.get("enabled", True):
            return _error(403, "Forbidden", "Operation get is not allowed on a disabled secret.", "SecretDisabled")
        return json_reply(200, {"value": found[-1].value, **self._properties(name, found[-1])})

    def _list_versions(self, request: ReceivedRequest, name: str) -> Reply:
        versions = self.versions(name)
        if not versions:
            return _not_found(name)
        return json_reply(200, {"value": [self._properties(name, it) for it in versions], "nextLink": None})

    def _put(self, request: ReceivedRequest, name: str) -> Reply:
        asked = request.json
        if not isinstance(asked, dict) or not isinstance(asked.get("value"), str):
            return _error(400, "BadParameter", "The request body must have a value.")
        stored = self.set_secret(name, asked["value"], asked.get("contentType"), **(asked.get("attributes") or {}))
        stored.tags.update(asked.get("tags") or {})
        return json_reply(200, {"value": stored.value, **self._properties(name, stored)})

    def _store(self, name: str, version: SecretVersion) -> None:
        with self.lock:
            self._secrets.setdefault(name.lower(), []).append(version)

    def _properties(self, name: str, version: SecretVersion) -> dict[str, Any]:
        return {
            "id": f"{self.url}/secrets/{name}/{version.version}",
            "contentType": version.content_type,
            "attributes": version.attributes,
            "tags": version.tags,
        }


def _not_found(name: str) -> Reply:
    return _error(404, "SecretNotFound", f"A secret with (name/id) {name} was not found in this key vault.")


def _error(status: int, code: str, message: str, inner: str | None = None) -> Reply:
    detail = {"innererror": {"code": inner}} if inner else {}
    return json_reply(status, {"error": {"code": code, "message": message, **detail}})
