"""The local cloud, all of it: start it, point the function app at it, drop manifests, look what arrived."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobClient, BlobServiceClient
from azure.storage.queue import QueueServiceClient

from local.azurite import Azurite
from local.certificates import Certificates, make_application_certificate, make_certificates
from local.simulators.entra import EntraSimulator
from local.simulators.key_vault import KeyVaultSimulator
from local.simulators.managed_identity import FEDERATION_AUDIENCE, ManagedIdentitySimulator
from local.simulators.partner_center import PartnerCenterSimulator

TENANT = "df845f1a-7b35-40a2-ba78-6481de91f8ae"
CLIENT_ID = "23ec45a3-5127-4185-9eff-c8887839e6ab"
IDENTITY_CLIENT_ID = "5a2f1d7c-9f0e-4a57-8c8b-6d6f2a0f3e11"
CONTOSO = "c7f3c849-129f-4b85-a96d-4f8e88b315a3"
FABRIKAM = "47021739-3426-40bf-9601-61b4b6d7c793"
CUSTOMERS: dict[str, Any] = {"contoso": CONTOSO, "fabrikam": {"customerId": FABRIKAM, "batchId": "Standard"}}
MANIFESTS = "manifests"


class LocalCloud:
    """Everything the product talks to. With a folder, storage outlives it there; else nothing does.

    With `oauth` the product reaches storage by managed identity, as in production; else by connection string.
    """

    azurite: Azurite
    partner_center: PartnerCenterSimulator
    entra: EntraSimulator
    key_vault: KeyVaultSimulator
    managed_identity: ManagedIdentitySimulator
    certificates: Certificates

    def __init__(self, folder: Path | None = None, *, oauth: bool = True) -> None:
        self._folder = folder
        self._oauth = oauth
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            self._start(starting)
            self.seed()
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _start(self, stack: ExitStack) -> None:
        folder = self._folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="local-cloud-")))
        folder.mkdir(parents=True, exist_ok=True)
        self.certificates = make_certificates(folder)
        storage = folder / "storage" if self._folder else None
        self.azurite = stack.enter_context(Azurite(self.certificates, storage, oauth=self._oauth))
        identity = stack.enter_context(ManagedIdentitySimulator(TENANT, IDENTITY_CLIENT_ID))
        self.managed_identity = identity
        # Each knows the other: tokens are for Partner Center's address, and Partner Center asks who issued them.
        self.partner_center = stack.enter_context(
            PartnerCenterSimulator(self.certificates, lambda token: self.entra.claims_of(token))
        )
        self.entra = stack.enter_context(
            EntraSimulator(
                self.certificates,
                tenant=TENANT,
                client_id=CLIENT_ID,
                resource=self.partner_center.url,
                federation=lambda token: identity.claims_of(token, FEDERATION_AUDIENCE),
            )
        )
        authority = f"{self.entra.url}/{TENANT}"
        self.key_vault = stack.enter_context(KeyVaultSimulator(self.certificates, identity.claims_of, authority))
        certificate = make_application_certificate()
        self.entra.register(certificate.certificate)
        self._pfx = base64.b64encode(certificate.pfx).decode()

    def seed(self) -> None:
        """The container, and what lies in the vault before the first manifest; earlier versions are forgotten."""
        with suppress(ResourceExistsError):
            self.blob_service().create_container(MANIFESTS)
        for name, value, kind in (
            ("partner-client-secret", self.entra.client_secret, None),
            ("partner-client-certificate", self._pfx, "application/x-pkcs12"),
            ("partner-refresh-token", self.entra.new_refresh_token(), None),
        ):
            self.key_vault.forget(name)
            self.key_vault.set_secret(name, value, kind)

    def settings(self) -> dict[str, str]:
        """The function app's environment."""
        return {
            **self._storage_settings(),
            **self.managed_identity.environment(),
            **self.certificates.environment(),
            "KEY_VAULT_URL": self.key_vault.url,
            "PARTNER_TENANT_ID": TENANT,
            "PARTNER_CLIENT_ID": CLIENT_ID,
            "PARTNER_CENTER_URL": self.partner_center.url,
            "AUTHORITY_HOST": self.entra.url,
            "CUSTOMERS": json.dumps(CUSTOMERS),
            "MANIFEST_CONTAINER": MANIFESTS,
            "BLOB_TRIGGER_SOURCE": "EventGrid",
        }

    def _storage_settings(self) -> dict[str, str]:
        if not self._oauth:
            return {"ManifestStorage": self.azurite.connection_string}
        return {
            "ManifestStorage__blobServiceUri": self.azurite.blob_url,
            "ManifestStorage__queueServiceUri": self.azurite.queue_url,
        }

    def blob_service(self) -> BlobServiceClient:
        """As a supplier or an operator has it: with the account's key, whatever identity the product uses."""
        trusted = str(self.certificates.ca)
        return BlobServiceClient.from_connection_string(self.azurite.connection_string, connection_verify=trusted)

    def queue_service(self) -> QueueServiceClient:
        trusted = str(self.certificates.ca)
        return QueueServiceClient.from_connection_string(self.azurite.connection_string, connection_verify=trusted)

    def drop(self, name: str, data: bytes, metadata: Mapping[str, str] | None = None) -> BlobClient:
        """Drops a manifest as a supplier does: `drop("contoso/May.csv", …)`."""
        container = self.blob_service().get_container_client(MANIFESTS)
        return container.upload_blob(name, data, overwrite=True, metadata=dict(metadata or {}))
