"""What Partner Center answers when it does not accept, sorted by whose it is (`reference/partner-center.md`, "Errors").

RequestRefused            400 and the like: this request will never be accepted
└─ CustomerNotFound       404 on list or create: no customer of this partner
BatchExists               409 on create, or a 400 that says so: append instead
BatchNotFound             404 on append: not there, or not there yet
OperatorsFault            401 without MFA, 401 with a fresh token, 403
NobodysFault              408, 409 on append, 429, 5xx, a redirect, no answer
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import httpx

from shared.faults import NobodysFault, OperatorsFault
from shared.manifest import without_hashes

LONGEST_DESCRIPTION = 500


@dataclass(frozen=True, slots=True)
class ServiceError:
    """An error answer, whatever its shape: `code` and `description` are empty where it has none."""

    status: int
    code: str
    description: str
    reason_phrase: str = ""

    @classmethod
    def of(cls, response: httpx.Response) -> ServiceError:
        """From the documented body, the throttle's, plain text, or the reason phrase alone. HTML says nothing to us."""
        text = response.content.decode("utf-8", "replace").strip()
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = None
        if isinstance(body, dict):
            members = {str(k).casefold(): v for k, v in body.items()}
            code = members.get("code") or members.get("errorcode") or ""
            description = members.get("description") or members.get("message") or ""
        else:
            code, description = "", "" if text.startswith("<") else text
        description = harmless(str(description or response.reason_phrase))
        code = re.sub(r"[^\w.-]", "", str(code))[:64]
        return cls(response.status_code, code, description, harmless(response.reason_phrase))

    @property
    def is_missing_mfa(self) -> bool:
        """Whether a 401 says, in any shape seen, that the token lacks the MFA claim. A new one will lack it too."""
        says_so = f"{self.reason_phrase} {self.description}".casefold()
        return self.code in ("900421", "10001") or "mfa" in says_so

    def __str__(self) -> str:
        return " ".join(filter(None, ("HTTP", str(self.status), self.code, self.description)))


class RequestRefused(Exception):
    """A request that will never be accepted as it is; `error` says why, `request_id` which it was."""

    def __init__(self, error: ServiceError, request_id: str, correlation_id: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.request_id = request_id
        self.correlation_id = correlation_id


class CustomerNotFound(RequestRefused):
    """No such customer of this partner."""


class BatchExists(Exception):
    """The customer has a batch of this id already."""


class BatchNotFound(Exception):
    """The customer has no batch of this id (yet)."""


def raise_for_refusal(response: httpx.Response, *, appending: bool, request_id: str, correlation_id: str) -> None:
    """Return where `response` is a success; else raise what it means.

    `appending`: the call names a batch in its path, so that a 404 means the batch and not the customer.
    """
    if response.is_success:
        return
    error = ServiceError.of(response)
    status = response.status_code
    if status < 400 or status in (408, 429) or status >= 500:
        raise NobodysFault(f"Partner Center answered {error}", seconds(response.headers.get("Retry-After", "")))
    if status == 401:
        raise _unauthorized(error)
    if status == 403:
        raise OperatorsFault(
            "partner-center-forbidden",
            f"Partner Center refused with {error}. Check that the consenting user is Admin agent or Sales agent, that "
            "the reseller relationship with the customer stands, and that it has a GDAP role for devices (Intune "
            "Administrator, Cloud Device Administrator or Windows 365 Administrator).",
            of_customer=True,
        )
    says_it_exists = status == 400 and re.search(r"already exist", error.description, re.IGNORECASE)
    if not appending and (status == 409 or says_it_exists):
        raise BatchExists(str(error))
    if status == 409:
        raise NobodysFault(f"Partner Center answered {error}")  # somebody else is at this batch
    if status == 404:
        if appending:
            raise BatchNotFound(str(error))
        raise CustomerNotFound(error, request_id, correlation_id)
    raise RequestRefused(error, request_id, correlation_id)


def harmless(text: str) -> str:
    """One line, not too long, without what may be a token or a hash: it goes into messages and logs."""
    text = "".join(c if c.isprintable() else " " for c in text[: 8 * LONGEST_DESCRIPTION])
    return without_hashes(re.sub(r"(?i)bearer\s+\S+|eyJ[\w-]*\.[\w.-]*", "(token)", text))[:LONGEST_DESCRIPTION]


def _unauthorized(error: ServiceError) -> OperatorsFault:
    if error.is_missing_mfa:
        return OperatorsFault(
            "mfa-required",
            f"Partner Center wants a token with MFA ({error}). Consent again, as a user who signs in with MFA.",
        )
    return OperatorsFault(
        "partner-center-unauthorized",
        f"Partner Center refused a fresh token with {error}. Check the app registration and its consent.",
    )


def seconds(retry_after: str) -> float | None:
    """A Retry-After header as Microsoft's services send it; a date or nonsense counts as none."""
    return float(retry_after) if re.fullmatch(r"\d{1,6}", retry_after) else None
