"""Secrets in, from Key Vault, each read when it is needed and kept nowhere else."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)

from shared.faults import NobodysFault, OperatorsFault

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.keyvault.secrets import SecretClient

FEDERATION_AUDIENCE = "api://AzureADTokenExchange"


class Vault:
    """The secrets of one key vault."""

    def __init__(self, client: SecretClient) -> None:
        self._client = client

    def read(self, name: str) -> str:
        """The current value of the secret `name`.

        Raises OperatorsFault where it is missing, empty or denied, NobodysFault where the vault does not answer.
        """
        try:
            value = self._client.get_secret(name).value
        except ResourceNotFoundError:
            raise _missing(name) from None
        except ClientAuthenticationError as error:
            raise OperatorsFault(
                "vault-denied",
                f"The app's identity got no token for the vault ({type(error).__name__}). Check that it is assigned.",
            ) from error
        except (ServiceRequestError, ServiceResponseError) as error:
            raise NobodysFault(f"No answer from the vault: {type(error).__name__}") from error
        except HttpResponseError as error:
            if error.status_code in (401, 403):
                raise OperatorsFault(
                    "vault-denied",
                    f"The vault refuses to show the secret {name} (HTTP {error.status_code}). Give the app's identity "
                    "the role Key Vault Secrets User, and check the vault's firewall.",
                ) from error
            raise NobodysFault(f"The vault answered HTTP {error.status_code}") from error
        if not value:
            raise _missing(name)
        return value


class SecretCredential:
    """The app proves itself with a client secret."""

    def __init__(self, vault: Vault, name: str) -> None:
        self._vault = vault
        self._name = name

    def get(self) -> str:
        return self._vault.read(self._name)


class CertificateCredential:
    """The app proves itself with a certificate, as Key Vault hands it out: PFX in Base64, or PEM."""

    def __init__(self, vault: Vault, name: str) -> None:
        self._vault = vault
        self._name = name

    def get(self) -> dict[str, object]:
        """The shape that MSAL wants: private key and certificate as PEM."""
        text = self._vault.read(self._name)
        try:
            return _from_pem(text) if "-----BEGIN" in text else _from_pfx(text)
        except (ValueError, TypeError, binascii.Error):
            # `from None`: the parser's words could quote the key.
            raise OperatorsFault(
                "client-certificate-unreadable",
                f"The secret {self._name} is no certificate with its private key. Import it into the vault as PFX or "
                "PEM, with an exportable key.",
            ) from None


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
        except ClientAuthenticationError as error:
            raise OperatorsFault(
                "managed-identity-refused",
                f"The app's managed identity got no token ({type(error).__name__}). Check that it is assigned.",
            ) from error


type ClientCredentialSource = SecretCredential | CertificateCredential | FederatedCredential


class VaultGrant:
    """What an App+User token is asked with: the refresh token, and the app's own proof."""

    def __init__(self, vault: Vault, refresh_token_name: str, credential: ClientCredentialSource) -> None:
        self._vault = vault
        self._refresh_token_name = refresh_token_name
        self._credential = credential

    def refresh_token(self) -> str:
        return self._vault.read(self._refresh_token_name)

    def client_credential(self) -> str | dict[str, object]:
        return self._credential.get()


def _missing(name: str) -> OperatorsFault:
    return OperatorsFault("secret-missing", f"The vault has no secret {name}. Store it there, or name another.")


def _from_pfx(text: str) -> dict[str, object]:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        pkcs12,
    )

    key, certificate, _ = pkcs12.load_key_and_certificates(base64.b64decode(text), None)
    if key is None or certificate is None:
        raise ValueError("no key or no certificate")
    return {
        "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "public_certificate": certificate.public_bytes(Encoding.PEM).decode(),
    }


def _from_pem(text: str) -> dict[str, object]:
    key_at, certificate_at = text.index("-----BEGIN PRIVATE KEY"), text.index("-----BEGIN CERTIFICATE")
    if key_at < certificate_at:
        return {"private_key": text[key_at:certificate_at], "public_certificate": text[certificate_at:]}
    return {"private_key": text[key_at:], "public_certificate": text[certificate_at:key_at]}
