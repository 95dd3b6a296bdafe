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
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import httpx
import msal
import requests
from requests.adapters import HTTPAdapter

from shared.faults import NobodysFault, OperatorsFault
from shared.partner_center.errors import ServiceError, seconds

logger = logging.getLogger(__name__)

RENEW_BEFORE_END = 300.0  # seconds: longer than one request may take
USED_ON = 60.0  # seconds that a refused token is used on: less than between two probes
_TIMEOUT = 30.0

type ClientCredential = str | dict[str, object]

# Permanent until a person acts; which problem it is and what it takes, by AADSTS code (`reference/partner-center.md`,
# "App+User tokens").
_CONSENT_AGAIN = "Consent again with MFA, as a user who is Admin agent or Sales agent."
_CONSENT, _CREDENTIAL, _AUTHORITY = "consent-needed", "client-credential-refused", "authority-unknown"
_REFUSALS = {
    50020: (_CONSENT, f"The consenting user is not of the partner's tenant. {_CONSENT_AGAIN}"),
    50076: (_CONSENT, f"The refresh token was made without MFA. {_CONSENT_AGAIN}"),
    50078: (_CONSENT, f"The user's MFA has expired. {_CONSENT_AGAIN}"),
    50173: (_CONSENT, f"The refresh token was revoked, perhaps by a new password. {_CONSENT_AGAIN}"),
    50177: (_CONSENT, f"The consenting user is not of the partner's tenant. {_CONSENT_AGAIN}"),
    53003: (
        _CONSENT,
        "Conditional access blocks the sign-in. Exempt the app, or consent again from where the policy allows it.",
    ),
    65001: (_CONSENT, f"The app was never consented to. {_CONSENT_AGAIN}"),
    70043: (_CONSENT, f"A sign-in frequency policy ended the refresh token. {_CONSENT_AGAIN}"),
    90002: (_AUTHORITY, "Entra does not know the tenant. Check PARTNER_TENANT_ID and AUTHORITY_HOST."),
    700007: (_CONSENT, "The refresh token belongs to another app. Consent again with the app of PARTNER_CLIENT_ID."),
    700016: (_AUTHORITY, "The tenant has no such app. Check PARTNER_CLIENT_ID and PARTNER_TENANT_ID."),
    700027: (_CREDENTIAL, "The app does not know the certificate. Upload its public part to the app registration."),
    700082: (_CONSENT, f"The refresh token was not used for 90 days. {_CONSENT_AGAIN}"),
    700213: (
        _CREDENTIAL,
        "The app has no federated credential for this managed identity. Add one to the app registration.",
    ),
    7000215: (_CREDENTIAL, "The client secret is wrong. Store the right one in the vault."),
    7000222: (_CREDENTIAL, "The client secret has expired. Make a new one and store it in the vault."),
}
_BUSY = {50196, 90033}
_ENTRA_SAYS = {"error", "access_token", "authorization_endpoint"}  # each of its answers has one of them
# What an exchange may find; each is over when one succeeds.
EXCHANGE_PROBLEMS = {
    *(_CONSENT, _CREDENTIAL, _AUTHORITY, "mfa-required"),
    *("vault-denied", "secret-missing", "client-certificate-unreadable", "managed-identity-refused"),
}


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """The refresh token as it was `stored`, as that `version`; from `ends` on it can no longer be exchanged."""

    value: str = field(repr=False)
    version: str
    stored: datetime
    ends: datetime


class Grant(Protocol):
    """Where the refresh token comes from and goes to, and what the app proves itself with."""

    def refresh_token(self) -> RefreshToken: ...

    def client_credential(self) -> ClientCredential: ...

    def store(self, rotated: str, instead_of: RefreshToken) -> bool:
        """Store what Entra gave for the exchanged one, if it is time to; whether it did. Raises Fault."""
        ...


class Bell(Protocol):
    """How operators are told of what does not stop the work."""

    def raise_for(self, fault: OperatorsFault) -> object: ...

    def resolve(self, problem_id: str) -> object: ...


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

    def __init__(
        self,
        app: AppRegistration,
        grant: Grant,
        bell: Bell,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        patience: float = 60.0,
    ) -> None:
        """`patience`: seconds that a thread waits for another's exchange."""
        self._app = app
        self._grant = grant
        self._bell = bell
        self._monotonic = monotonic
        self._patience = patience
        self._lock = threading.Lock()
        self._token: AccessToken | None = None

    def get(self, *, instead_of: str = "") -> str:
        """A token that is good for a while. `instead_of`: one that was refused, so that another is fetched.

        Raises OperatorsFault where only a person can bring the next token, NobodysFault where Entra does not answer.
        """
        with self._one_at_a_time():
            token = self._token
            if token is None or self._monotonic() >= token.renew_at or token.value == instead_of:
                token = self._token = self._exchange()
            return token.value

    def forget(self, value: str) -> None:
        """Have another fetched than this one, in a minute. It waits for nobody: at worst one more is fetched.

        Were it at once, a customer who refuses every call would have each of his manifests fetch one.
        """
        token = self._token
        if token and token.value == value:
            self._token = AccessToken(value, min(token.renew_at, self._monotonic() + USED_ON))

    def renew(self) -> None:
        """Exchange the refresh token now, whatever the access token is still good for. Raises as `get` does."""
        with self._one_at_a_time():
            self._token = self._exchange()

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Where one hangs for minutes, the others must not stand in line to do so one after the other."""
        if not self._lock.acquire(timeout=self._patience):
            raise NobodysFault("No token yet: whoever asked for one still waits for an answer")
        try:
            yield
        finally:
            self._lock.release()

    def _exchange(self) -> AccessToken:
        stored = self._grant.refresh_token()
        answer = self._asked(stored.value, self._grant.client_credential())
        if "access_token" not in answer:
            raise _refused(answer)
        value = str(answer["access_token"])
        _require_mfa(value)
        lifetime = float(answer.get("expires_in") or 0)
        logger.info("token.exchanged lifetime_s=%d", lifetime)
        if rotated := answer.get("refresh_token"):
            self._store(str(rotated), stored)
        return AccessToken(value, self._monotonic() + max(lifetime - RENEW_BEFORE_END, lifetime / 2))

    def _asked(self, refresh_token: str, credential: ClientCredential) -> dict[str, Any]:
        try:
            app = msal.ConfidentialClientApplication(
                self._app.client_id,
                client_credential=credential,
                authority=f"{self._app.authority_host.rstrip('/')}/{self._app.tenant_id}",
                instance_discovery=False,  # the authority is the operator's own setting
                http_client=_Session(),
            )
            answer: dict[str, Any] = app.acquire_token_by_refresh_token(refresh_token, scopes=[self._app.scope])
        except requests.RequestException as error:
            raise NobodysFault(f"No answer from Entra: {type(error).__name__}") from error
        except ValueError as error:
            # MSAL's word for a tenant that the authority does not know. Keys were looked at before they got here.
            raise OperatorsFault(*_REFUSALS[90002]) from error
        return answer

    def _store(self, rotated: str, stored: RefreshToken) -> None:
        """The token at hand is good for its hour, whether the next refresh token could be stored or not."""
        problem = "refresh-token-not-stored"
        try:
            try:
                if self._grant.store(rotated, stored):
                    logger.info("refresh_token.stored")
                    self._bell.resolve(problem)
            except NobodysFault as fault:
                logger.warning("refresh_token.not_stored %s", fault)  # the next exchange has one, too
            except OperatorsFault as fault:
                logger.warning("refresh_token.not_stored %s", fault)
                advice = (
                    f"The rotated refresh token could not be stored; the stored one ends on {stored.ends:%Y-%m-%d}. "
                    f"Give the app's identity the role Key Vault Secrets Officer on that secret. {fault}"
                )
                self._bell.raise_for(OperatorsFault(problem, advice, severity="workday"))
        except Exception:
            logger.exception("refresh_token.not_told")


class _Session(requests.Session):
    """What MSAL calls Entra with. It tells an outage, which passes, from a refusal, which MSAL then reads.

    A redirect is not followed: it would take the refresh token and the client secret along.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mount("https://", HTTPAdapter(max_retries=1))

    def request(self, *args: Any, **more: Any) -> requests.Response:
        response = super().request(*args, **{"timeout": _TIMEOUT, **more, "allow_redirects": False})
        status = response.status_code
        if status in (408, 429) or status >= 500 or response.is_redirect:
            raise NobodysFault(f"Entra answered HTTP {status}", seconds(response.headers.get("Retry-After", "")))
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or not answer.keys() & _ENTRA_SAYS:
            raise NobodysFault(f"Something between here and Entra answered HTTP {status}, and not as Entra does")
        return response


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
        elif response.status_code in (401, 403):
            self._tokens.forget(token)  # the next probe is to go by what an operator has mended by then


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


def _refused(answer: dict[str, Any]) -> Exception:
    """Whose fault a token refusal is. Entra's description is not repeated: it can hold names of people."""
    error = str(answer.get("error", ""))
    codes = answer.get("error_codes")
    number = codes[0] if isinstance(codes, list) and codes else 0
    if error in ("temporarily_unavailable", "server_error", "") or number in _BUSY:
        return NobodysFault(f"Entra answered {error or 'without a token'} AADSTS{number}")
    unknown = (
        (_CREDENTIAL, f"Entra refused with {error}. Check the app's secret, certificate or federated credential.")
        if error == "invalid_client"
        else (_CONSENT, f"Entra refused with {error}. {_CONSENT_AGAIN}")
    )
    problem, advice = _REFUSALS.get(number, unknown)
    return OperatorsFault(problem, f"AADSTS{number}: {advice}")
