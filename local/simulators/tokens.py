"""Access tokens of the simulated authorities."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

import jwt


class TokenIssuer:
    """Issues JWTs that only it can check: services here ask the issuer, as the real ones fetch its keys."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self._key = secrets.token_hex(32)

    def issue(self, audience: str, seconds: int, claims: Mapping[str, Any]) -> str:
        now = int(time.time())
        times = {"iat": now, "nbf": now, "exp": now + seconds}
        # Entra never issues the same token twice, even within one second.
        return jwt.encode(
            {"aud": audience, "iss": self.issuer, **times, "uti": secrets.token_urlsafe(12), **claims},
            self._key,
        )

    def claims_of(self, token: str, audience: str) -> dict[str, Any] | None:
        """None: not ours, expired, revoked, or meant for another service."""
        try:
            return jwt.decode(token, self._key, algorithms=["HS256"], audience=audience)
        except jwt.InvalidTokenError:
            return None

    def revoke_all(self) -> None:
        self._key = secrets.token_hex(32)
