"""App+User tokens of the secure application model: a refresh token of a user who consented with MFA, exchanged by MSAL.

vault ── refresh token, client secret or certificate ──► MSAL ── access token ──► BearerAuth ──► Partner Center
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Protocol

import httpx
import msal
import requests

from shared.faults import NobodysFault, OperatorsFault
from shared.partner_center.errors import ServiceError

logger = logging.getLogger(__name__)

RENEW_BEFORE_END = 300.0  # seconds: longer than one request may take
_TIMEOUT = 30.0

type ClientCredential = str | dict[str, object]

# Permanent until a person acts; what it takes, by AADSTS code (`reference/partner-center.md`, "App+User tokens").
_CONSENT_AGAIN = "Consent again with MFA, as a user who is Admin agent or Sales agent."
_ADVICE = {
    50076: f"The refresh token was made without MFA. {_CONSENT_AGAIN}",
    50078: f"The user's MFA has expired. {_CONSENT_AGAIN}",
    50173: f"The refresh token was revoked, perhaps by a new password. {_CONSENT_AGAIN}",
    53003: "Conditional access blocks the sign-in. Exempt the app, or consent again from where the policy allows it.",
    65001: f"The app was never consented to. {_CONSENT_AGAIN}",
    70043: f"A sign-in frequency policy ended the refresh token. {_CONSENT_AGAIN}",
    700007: "The refresh token belongs to another app. Consent again with the app of PARTNER_CLIENT_ID.",
    700082: f"The refresh token was not used for 90 days. {_CONSENT_AGAIN}",
    7000215: "The client secret is wrong. Store the right one in the vault.",
    7000222: "The client secret has expired. Make a new one and store it in the vault.",
}
_SECRET_CODES = {7000215, 7000222}


class Grant(Protocol):
    """Where the refresh token comes from, and what the app proves itself with."""

    def refresh_token(self) -> str: ...

    def client_credential(self) -> ClientCredential: ...


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A bearer token and when (monotonic seconds) it must be renewed. Its `repr` does not show it."""

    value: str = field(repr=False)
    renew_at: float


@dataclass(frozen=True, slots=True)
class AppRegistration:
    """The partner's app in the partner's tenant; the customer's tenant plays no part."""

    authority_host: str
    tenant_id: str
    client_id: str
    resource: str

    @property
    def scope(self) -> str:
        return f"{self.resource.rstrip('/')}/user_impersonation"


class AppUserTokens:
    """The current App+User token, renewed shortly before its end by one thread at a time."""

    def __init__(self, app: AppRegistration, grant: Grant, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._grant = grant
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._token: AccessToken | None = None

    def get(self, *, instead_of: str = "") -> str:
        """A token that is good for a while. `instead_of`: one that was refused, so that another is fetched.

        Raises OperatorsFault where only a person can bring the next token, NobodysFault where Entra does not answer.
        """
        with self._lock:
            token = self._token
            if token is None or self._monotonic() >= token.renew_at or token.value == instead_of:
                token = self._token = self._exchange()
            return token.value

    def _exchange(self) -> AccessToken:
        refresh_token = self._grant.refresh_token()
        try:
            app = msal.ConfidentialClientApplication(
                self._app.client_id,
                client_credential=self._grant.client_credential(),
                authority=f"{self._app.authority_host.rstrip('/')}/{self._app.tenant_id}",
                instance_discovery=False,  # the authority is the operator's own setting
                timeout=_TIMEOUT,
            )
            answer = app.acquire_token_by_refresh_token(refresh_token, scopes=[self._app.scope])
        except requests.RequestException as error:
            raise NobodysFault(f"No answer from Entra: {type(error).__name__}") from error
        except ValueError as error:
            # MSAL's word for a tenant that the authority does not know. Keys were looked at before they got here.
            raise OperatorsFault(
                "authority-unknown", "Entra does not know the tenant. Check PARTNER_TENANT_ID and AUTHORITY_HOST."
            ) from error
        if "access_token" not in answer:
            raise _refused(answer)
        value = str(answer["access_token"])
        _require_mfa(value)
        lifetime = float(answer.get("expires_in") or 0)
        logger.info("token.exchanged lifetime_s=%d", lifetime)
        return AccessToken(value, self._monotonic() + max(lifetime - RENEW_BEFORE_END, lifetime / 2))


class BearerAuth(httpx.Auth):
    """Puts the token on requests to `base_url` and nowhere else; on a 401 renews it once and sends again."""

    requires_response_body = True  # a 401 says in its body whether a new token would help

    def __init__(self, tokens: AppUserTokens, base_url: str) -> None:
        self._tokens = tokens
        self._host = httpx.URL(base_url).netloc

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        if request.url.scheme != "https" or request.url.netloc != self._host:
            raise ValueError("the bearer token goes to PARTNER_CENTER_URL alone, over TLS")
        token = self._tokens.get()
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401 and not ServiceError.of(response).is_missing_mfa:
            request.headers["Authorization"] = f"Bearer {self._tokens.get(instead_of=token)}"
            yield request


def _require_mfa(token: str) -> None:
    """Look at the `amr` claim before the first call; a token that cannot be read is Partner Center's to judge."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, binascii.Error):
        return
    if isinstance(claims, dict) and "mfa" not in claims.get("amr", ["mfa"]):
        raise OperatorsFault(
            "mfa-required",
            f"The access token has no MFA claim: the user consented without MFA. {_CONSENT_AGAIN}",
        )


def _refused(answer: dict[str, object]) -> Exception:
    """Whose fault a token refusal is. Entra's description is not repeated: it can hold names of people."""
    error = str(answer.get("error", ""))
    codes = answer.get("error_codes")
    number = codes[0] if isinstance(codes, list) and codes else 0
    if error in ("temporarily_unavailable", "server_error", "") or number in (90033, 50196):
        return NobodysFault(f"Entra answered {error or 'without a token'} AADSTS{number}")
    advice = _ADVICE.get(number, f"Entra refused with {error}. {_CONSENT_AGAIN}")
    problem = "client-credential-refused" if number in _SECRET_CODES or error == "invalid_client" else "consent-needed"
    return OperatorsFault(problem, f"AADSTS{number}: {advice}")
