"""Secrets in, from Key Vault, each read when it is needed and kept nowhere else; the rotated refresh token out."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from azure.core.exceptions import (
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)

from shared.faults import NobodysFault, OperatorsFault
from shared.partner_center import RefreshToken

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.keyvault.secrets import SecretClient
    from cryptography.x509 import Certificate

FEDERATION_AUDIENCE = "api://AzureADTokenExchange"
# `reference/partner-center.md`, "App+User tokens".
LIFE_OF_REFRESH_TOKEN, STORED_AGAIN_AFTER = timedelta(days=90), timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Secret:
    """One version of a secret. Its `repr` does not show the value."""

    value: str = field(repr=False)
    version: str
    stored: datetime
    ends: datetime | None


class Vault:
    """The secrets of one key vault."""

    def __init__(self, client: SecretClient) -> None:
        self._client = client

    def read(self, name: str) -> Secret:
        """The current version of the secret `name`.

        Raises OperatorsFault where it is missing, empty or denied, NobodysFault where the vault does not answer.
        """
        with _faults(f"show the secret {name}", "Key Vault Secrets User"):
            try:
                found = self._client.get_secret(name)
            except ResourceNotFoundError:
                raise _missing(name) from None
        properties = found.properties
        if not found.value:
            raise _missing(name)
        stored = properties.created_on or datetime.fromtimestamp(0, UTC)
        return Secret(found.value, properties.version or "", stored, properties.expires_on)

    def write(self, name: str, value: str, ends: datetime) -> None:
        """Store a new version. Raises OperatorsFault where that is denied, NobodysFault where there is no answer."""
        with _faults(f"store the secret {name}", "Key Vault Secrets Officer on it"):
            self._client.set_secret(name, value, expires_on=ends)


@contextmanager
def _faults(to_do: str, role: str) -> Iterator[None]:
    """Whose fault it is that the vault did not do it."""
    try:
        yield
    except (ServiceRequestError, ServiceResponseError) as error:
        raise NobodysFault(f"No answer from the vault: {type(error).__name__}") from error
    except HttpResponseError as error:
        status = error.status_code
        if status in (408, 429) or (status or 0) >= 500:
            raise NobodysFault(f"The vault, or the app's identity, answered HTTP {status}") from error
        if status is None:
            raise OperatorsFault(
                "managed-identity-refused",
                f"The app's managed identity got no token for the vault ({type(error).__name__}). Check that it is "
                "assigned.",
            ) from error
        if "SecretDisabled" in str(getattr(error.error, "innererror", "")):
            raise OperatorsFault(
                "secret-missing", f"The vault does not {to_do}: it is disabled. Enable it, or store a new version."
            ) from error
        raise OperatorsFault(
            "vault-denied",
            f"The vault refuses to {to_do} (HTTP {status}). Give the app's identity the role {role}, and check the "
            "vault's firewall.",
        ) from error
    except ValueError as error:
        # The client found that what answers at this address speaks for another one.
        raise OperatorsFault(
            "vault-denied", "What answers at KEY_VAULT_URL is no key vault of that address."
        ) from error


class SecretCredential:
    """The app proves itself with a client secret."""

    def __init__(self, vault: Vault, name: str) -> None:
        self._vault = vault
        self._name = name

    def get(self) -> str:
        return self._vault.read(self._name).value

    def ends(self) -> datetime | None:
        return self._vault.read(self._name).ends


class CertificateCredential:
    """The app proves itself with a certificate, as Key Vault hands it out: PFX in Base64, or PEM."""

    def __init__(self, vault: Vault, name: str) -> None:
        self._vault = vault
        self._name = name

    def get(self) -> dict[str, object]:
        """The shape that MSAL wants: private key and certificate as PEM."""
        text = self._vault.read(self._name).value
        try:
            return _from_pem(text) if "-----BEGIN" in text else _from_pfx(text)
        except (ValueError, TypeError, binascii.Error):
            # `from None`: the parser's words could quote the key.
            raise OperatorsFault(
                "client-certificate-unreadable",
                f"The secret {self._name} is no certificate with its private RSA key. Import it into the vault as PFX "
                "or PEM, with an exportable key.",
            ) from None

    def ends(self) -> datetime | None:
        return self._vault.read(self._name).ends


class FederatedCredential:
    """The app proves itself with its managed identity: no secret at all."""

    def __init__(self, identity: TokenCredential) -> None:
        self._identity = identity

    def get(self) -> dict[str, object]:
        """The shape that MSAL wants: it asks for an assertion when it needs one."""
        return {"client_assertion": self._assertion}

    def _assertion(self) -> str:
        try:
            return self._identity.get_token(f"{FEDERATION_AUDIENCE}/.default").token
        except (ServiceRequestError, ServiceResponseError) as error:
            raise NobodysFault(f"No answer from the managed identity: {type(error).__name__}") from error
        except HttpResponseError as error:
            if error.status_code in (408, 429) or (error.status_code or 0) >= 500:
                raise NobodysFault(f"The managed identity answered HTTP {error.status_code}") from error
            raise OperatorsFault(
                "managed-identity-refused",
                f"The app's managed identity got no token ({type(error).__name__}). Check that it is assigned.",
            ) from error

    def ends(self) -> datetime | None:
        return None


type ClientCredentialSource = SecretCredential | CertificateCredential | FederatedCredential


class VaultGrant:
    """What an App+User token is asked with: the refresh token, and the app's own proof."""

    def __init__(
        self, vault: Vault, refresh_token_name: str, credential: ClientCredentialSource, clock: Callable[[], datetime]
    ) -> None:
        self._vault = vault
        self._refresh_token_name = refresh_token_name
        self._credential = credential
        self._clock = clock

    def refresh_token(self) -> RefreshToken:
        secret = self._vault.read(self._refresh_token_name)
        ends = secret.ends or secret.stored + LIFE_OF_REFRESH_TOKEN
        return RefreshToken(secret.value, secret.version, secret.stored, ends)

    def client_credential(self) -> str | dict[str, object]:
        return self._credential.get()

    def credential_ends(self) -> datetime | None:
        """When the vault says that the app's own proof ends, where it says so."""
        return self._credential.ends()

    def store(self, rotated: str, instead_of: RefreshToken) -> bool:
        """Store the rotated token where the stored one is old, unless a person has stored another meanwhile.

        A vault keeps every version for ever, so not each is stored. It knows no conditional write: between the look and
        the write somebody may still store one of his own, which would be exchanged by then in most cases.
        """
        now = self._clock()
        if now - instead_of.stored <= STORED_AGAIN_AFTER:
            return False
        if self._vault.read(self._refresh_token_name).version != instead_of.version:
            return False
        self._vault.write(self._refresh_token_name, rotated, now + LIFE_OF_REFRESH_TOKEN)
        return True


def _missing(name: str) -> OperatorsFault:
    return OperatorsFault("secret-missing", f"The vault has no secret {name}. Store it there, or name another.")


def _from_pfx(text: str) -> dict[str, object]:
    from cryptography.hazmat.primitives.serialization import pkcs12

    key, certificate, _ = pkcs12.load_key_and_certificates(base64.b64decode(text), None)
    return _for_msal(key, certificate)


def _from_pem(text: str) -> dict[str, object]:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificate

    return _for_msal(load_pem_private_key(text.encode(), None), load_pem_x509_certificate(text.encode()))


def _for_msal(key: object, certificate: Certificate | None) -> dict[str, object]:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    if not isinstance(key, RSAPrivateKey) or certificate is None:
        raise ValueError("no RSA key or no certificate")
    return {
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "public_certificate": certificate.public_bytes(Encoding.PEM).decode(),
    }
