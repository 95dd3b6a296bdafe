"""Entra's token endpoint, as far as the App+User flow needs it: refresh tokens in, access tokens out."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from local.certificates import Certificates
from local.simulators.faults import Reply, json_reply
from local.simulators.server import ReceivedRequest, Simulator, route
from local.simulators.tokens import TokenIssuer

type Method = Literal["secret", "certificate", "federated"]

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

# Microsoft's own words, shortened where they run on.
_REFUSALS: dict[int, str] = {
    50076: "Due to a configuration change made by your administrator, or because you moved to a new location, "
    "you must use multi-factor authentication to access 'fa3d9a0c-3fb0-42cc-9193-47c7ecd2edbd'.",
    50078: "Presented multi-factor authentication has expired due to policies configured by your administrator, "
    "you must refresh your multi-factor authentication to access the resource.",
    50173: "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might "
    "have changed or reset their password.",
    53003: "Access has been blocked by Conditional Access policies.",
    65001: "The user or administrator has not consented to use the application.",
    70011: "The provided value for the input parameter 'scope' is not valid.",
    70043: "The refresh token has expired or is invalid due to sign-in frequency checks by policy.",
    90002: "Tenant not found.",
    700007: "The grant was issued to another client.",
    700016: "Application was not found in the directory.",
    700027: "The certificate with identifier that signed the client assertion is not registered on application.",
    700082: "The refresh token has expired due to inactivity and was inactive for 90.00:00:00.",
    700213: "No matching federated identity record found for presented assertion.",
    7000215: "Invalid client secret provided.",
    7000218: "The request body must contain 'client_assertion' or 'client_secret'.",
    7000222: "The provided client secret keys for app are expired.",
    9002313: "Invalid request. Request is malformed or invalid.",
}
_ERRORS: dict[int, str] = {
    **dict.fromkeys((50076, 50078, 53003), "interaction_required"),
    **dict.fromkeys((700027, 700213, 7000215, 7000218, 7000222), "invalid_client"),
    70011: "invalid_scope",
    90002: "invalid_request",
    700016: "unauthorized_client",
}


class _RefusedError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Exchange:
    """One refresh token that came in, and what went out for it."""

    refresh_token: str
    method: Method | None
    scope: str
    refused: int | None = None
    access_token: str | None = None
    new_refresh_token: str | None = None


class EntraSimulator(Simulator):
    """`resource` is Partner Center's address; `federation` says what a managed identity's token claims."""

    def __init__(
        self,
        certificates: Certificates,
        *,
        tenant: str,
        client_id: str,
        resource: str,
        federation: Callable[[str], dict[str, Any] | None] = lambda _: None,
    ) -> None:
        super().__init__(certificates)
        self.client_secret = secrets.token_urlsafe(24)
        self.refresh_tokens: set[str] = set()
        self.exchanges: list[Exchange] = []
        self.amr = ["pwd", "mfa"]
        self.expires_in = 3600
        self.before_answering: Callable[[], object] = lambda: None
        self._tenant, self._client_id, self._resource = tenant, client_id, resource
        self._federation = federation
        self._keys: dict[str, RSAPublicKey] = {}
        self._refusal: int | None = None
        self._issuer = TokenIssuer(f"https://sts.windows.net/{tenant}/")
        self.routes = [
            route("GET", "/{tenant}/v2.0/.well-known/openid-configuration", self._configuration),
            route("POST", "/{tenant}/oauth2/v2.0/token", self._token),
        ]

    @property
    def issued_tokens(self) -> list[str]:
        return [exchange.access_token for exchange in self.exchanges if exchange.access_token]

    def new_refresh_token(self) -> str:
        """One that a person consented to with MFA."""
        token = f"1.{secrets.token_urlsafe(48)}"
        self.refresh_tokens.add(token)
        return token

    def register(self, certificate: x509.Certificate) -> None:
        """Takes client assertions signed with this certificate's key."""
        der = certificate.public_bytes(Encoding.DER)
        key = cast(RSAPublicKey, certificate.public_key())
        # x5t is SHA-1 by its definition, x5t#S256 is SHA-256.
        for digest in (hashlib.sha1(der, usedforsecurity=False), hashlib.sha256(der)):
            self._keys[base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()] = key

    def refuse(self, code: int | None) -> None:
        """Every exchange from now on fails with AADSTS{code}; None ends that."""
        self._refusal = code

    def claims_of(self, token: str) -> dict[str, Any] | None:
        """What an access token for Partner Center claims; None if it is not, or no longer, a good one."""
        return self._issuer.claims_of(token, self._resource)

    def is_valid(self, token: str) -> bool:
        return self.claims_of(token) is not None

    def revoke_access_tokens(self) -> None:
        self._issuer.revoke_all()

    def _configuration(self, request: ReceivedRequest, tenant: str) -> Reply:
        oauth = f"{self.url}/{tenant}/oauth2/v2.0"
        return json_reply(
            200,
            {
                "issuer": f"{self.url}/{tenant}/v2.0",
                "authorization_endpoint": f"{oauth}/authorize",
                "token_endpoint": f"{oauth}/token",
                "device_authorization_endpoint": f"{oauth}/devicecode",
                "jwks_uri": f"{self.url}/{tenant}/discovery/v2.0/keys",
            },
        )

    def _token(self, request: ReceivedRequest, tenant: str) -> Reply:
        form = request.form
        method: Method | None = None
        try:
            method = self._authenticated(form, tenant)
            self._check_grant(form)
        except _RefusedError as refused:
            self._remember(form, method, refused=refused.code)
            return _refused(refused.code)
        return self._granted(form, method)

    def _authenticated(self, form: dict[str, str], tenant: str) -> Method:
        if tenant.lower() != self._tenant.lower():
            raise _RefusedError(90002)
        if form.get("client_id", "").lower() != self._client_id.lower():
            raise _RefusedError(700016)
        if self._refusal:
            raise _RefusedError(self._refusal)
        if "client_secret" in form:
            if form["client_secret"] != self.client_secret:
                raise _RefusedError(7000215)
            return "secret"
        if form.get("client_assertion_type") != _ASSERTION_TYPE or "client_assertion" not in form:
            raise _RefusedError(7000218)
        return self._asserted(form["client_assertion"], tenant)

    def _asserted(self, assertion: str, tenant: str) -> Method:
        try:
            header = jwt.get_unverified_header(assertion)
        except jwt.InvalidTokenError:
            raise _RefusedError(700027) from None
        thumbprint = header.get("x5t#S256") or header.get("x5t")
        if thumbprint is None:
            if self._federation(assertion) is None:
                raise _RefusedError(700213)
            return "federated"
        self._verify_signature(assertion, thumbprint, f"{self.url}/{tenant}/oauth2/v2.0/token")
        return "certificate"

    def _verify_signature(self, assertion: str, thumbprint: str, audience: str) -> None:
        try:
            key = self._keys[thumbprint.rstrip("=")]  # MSAL leaves the padding on
            claims = jwt.decode(assertion, key, algorithms=["RS256", "PS256"], audience=audience)
        except (KeyError, jwt.InvalidTokenError):
            raise _RefusedError(700027) from None
        if not claims.get("iss") == claims.get("sub") == self._client_id:
            raise _RefusedError(700027)

    def _check_grant(self, form: dict[str, str]) -> None:
        if form.get("grant_type") != "refresh_token" or form.get("refresh_token") not in self.refresh_tokens:
            raise _RefusedError(9002313)
        if f"{self._resource}/user_impersonation" not in form.get("scope", "").split():
            raise _RefusedError(70011)

    def _granted(self, form: dict[str, str], method: Method | None) -> Reply:
        claims = {"amr": self.amr, "tid": self._tenant, "appid": self._client_id, "scp": "user_impersonation"}
        access_token = self._issuer.issue(self._resource, self.expires_in, {**claims, "ver": "1.0"})
        refresh_token = self.new_refresh_token()
        self.before_answering()
        self._remember(form, method, access_token=access_token, new_refresh_token=refresh_token)
        return json_reply(
            200,
            {
                "token_type": "Bearer",
                "scope": f"{self._resource}/user_impersonation",
                "expires_in": self.expires_in,
                "ext_expires_in": self.expires_in,
                "access_token": access_token,
                "refresh_token": refresh_token,
            },
        )

    def _remember(self, form: dict[str, str], method: Method | None, **outcome: Any) -> None:
        self.exchanges.append(Exchange(form.get("refresh_token", ""), method, form.get("scope", ""), **outcome))


def _refused(code: int) -> Reply:
    trace, correlation = uuid.uuid4(), uuid.uuid4()
    now = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
    error = _ERRORS.get(code, "invalid_grant")
    body = {
        "error": error,
        "error_description": f"AADSTS{code}: {_REFUSALS.get(code, 'The request was refused.')}\r\n"
        f"Trace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {now}",
        "error_codes": [code],
        "timestamp": now,
        "trace_id": str(trace),
        "correlation_id": str(correlation),
        "error_uri": f"https://login.microsoftonline.com/error?code={code}",
    }
    return json_reply(401 if error == "invalid_client" else 400, body)
