"""Composition root: from the app settings to the use cases. Only this module knows everything.

Its own imports are light: the app is indexed on a cold start, and what the first invocation needs is imported by it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

    from shared.intake import Intake
    from shared.key_vault import ClientCredentialSource, Vault, VaultGrant
    from shared.manifest import Customers
    from shared.settings import Settings
    from shared.sweep import Sweep
    from shared.token_life import TokenLife

RETRIES_QUEUE = "intake-retries"
_CUSTOMERS_MAX_AGE = 60.0  # seconds
# A call that hangs must not eat an invocation: connect and read in seconds, then a few repeats.
_CLIENT_OPTIONS: dict[str, Any] = {
    "connection_timeout": 10,
    "read_timeout": 60,
    "retry_total": 4,
    "retry_backoff_factor": 0.5,
}
# The storage clients have names of their own for it, and would wait 15 seconds before the first repeat.
_STORAGE_OPTIONS: dict[str, Any] = {
    "connection_timeout": 10,
    "read_timeout": 60,
    "retry_total": 4,
    "initial_backoff": 1,
    "increment_base": 2,
    "random_jitter_range": 1,
}
_CHUNK = 4 * 1024 * 1024
_BLOB_OPTIONS: dict[str, Any] = {
    "max_single_get_size": _CHUNK,
    "max_chunk_get_size": _CHUNK,
    "max_single_put_size": 2 * _CHUNK,
    "max_block_size": _CHUNK,
}

_lock = threading.Lock()
_services: Services | None = None


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases, on the same clients and the same token."""

    intake: Intake
    sweep: Sweep
    token_life: TokenLife


def services() -> Services:
    """Those of this process, built on first use, once, however many threads ask."""
    global _services
    with _lock:
        if _services is None:
            _services = build(os.environ)
        return _services


def _now() -> datetime:
    return datetime.now(UTC)


def build(environment: Mapping[str, str], clock: Callable[[], datetime] = _now) -> Services:
    """The use cases that these app settings describe. Raises SettingsError, naming what is missing or wrong."""
    from shared.alerts import Alerts
    from shared.intake import Intake
    from shared.ledger import CONTAINER as LEDGER
    from shared.ledger import Ledger
    from shared.manifest import Rules
    from shared.partner_center import AppRegistration, AppUserTokens, BearerAuth, PartnerCenter
    from shared.reports import CONTAINER as REPORTS
    from shared.settings import Settings
    from shared.storage import Manifests, Queues, Reports
    from shared.sweep import Sweep
    from shared.token_life import TokenLife

    # Both log each request at INFO; the rest of `azure` may speak.
    for name in ("azure.core.pipeline.policies.http_logging_policy", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)

    settings = Settings.from_environment(environment)
    account = _Account(settings)
    ledger = account.container(LEDGER)
    queues = Queues(account.channels(), account.queue(RETRIES_QUEUE))
    app = AppRegistration(
        settings.authority_host,
        settings.partner_tenant_id,
        settings.partner_client_id,
        settings.partner_center_url,
    )
    alerts = Alerts(ledger, queues, clock)
    grant = _grant(settings, clock)
    tokens = AppUserTokens(app, grant, alerts)
    intake = Intake(
        manifests=Manifests(account.blobs.get_container_client(settings.manifest_container)),
        customers=_CustomerSetting(settings.customers, account),
        ledger=Ledger(ledger, clock),
        reports=Reports(account.container(REPORTS)),
        queues=queues,
        alerts=alerts,
        partner_center=PartnerCenter(settings.partner_center_url, BearerAuth(tokens, settings.partner_center_url)),
        rules=Rules(
            settings.max_manifest_bytes,
            settings.max_devices,
            settings.max_batches,
            settings.bad_rows_allowed,
            settings.hash_check,
        ),
        default_batch=settings.default_batch_id,
        devices_per_request=settings.devices_per_request,
        clock=clock,
    )
    return Services(
        intake,
        Sweep(intake.manifests, intake.ledger, queues, alerts, clock),
        TokenLife(tokens, grant, alerts, clock),
    )


class _Account:
    """The storage account of every container and queue. What is missing of ours is created."""

    def __init__(self, settings: Settings) -> None:
        from azure.storage.blob import BlobServiceClient
        from azure.storage.queue import QueueServiceClient

        self._settings = settings
        options = _STORAGE_OPTIONS
        if settings.storage_connection:
            connection = settings.storage_connection
            self.blobs = BlobServiceClient.from_connection_string(connection, **options, **_BLOB_OPTIONS)
            self._queues = QueueServiceClient.from_connection_string(connection, **options)
        else:
            identity = _identity(settings.storage_client_id)
            self.blobs = BlobServiceClient(settings.blob_service_uri, identity, **options, **_BLOB_OPTIONS)
            self._queues = QueueServiceClient(settings.queue_service_uri, identity, **options)

    def container(self, name: str) -> Any:
        from azure.core.exceptions import ResourceExistsError

        client = self.blobs.get_container_client(name)
        with suppress(ResourceExistsError):
            client.create_container()
        return client

    def queue(self, name: str) -> Any:
        from azure.core.exceptions import ResourceExistsError
        from azure.storage.queue import TextBase64EncodePolicy

        # Base64, as Functions itself reads and writes by default.
        client = self._queues.get_queue_client(name, message_encode_policy=TextBase64EncodePolicy())
        with suppress(ResourceExistsError):
            client.create_queue()
        return client

    def channels(self) -> dict[Any, Any]:
        from shared.messages import Channel

        s = self._settings
        names = {
            Channel.RESULT: s.result_queue,
            Channel.OUTCOME: s.outcome_queue,
            Channel.REJECTION: s.rejection_queue,
            Channel.ALERT: s.alert_queue,
        }
        return {channel: self.queue(name) for channel, name in names.items()}


def _identity(client_id: str) -> TokenCredential:
    from shared.identity import Identity

    options: dict[str, Any] = {"retry_total": 2, "retry_backoff_factor": 0.5}
    return Identity(client_id=client_id, **options) if client_id else Identity(**options)


def _grant(settings: Settings, clock: Callable[[], datetime]) -> VaultGrant:
    from azure.keyvault.secrets import SecretClient

    from shared.key_vault import Vault, VaultGrant

    client = SecretClient(settings.key_vault_url, _identity(settings.managed_identity_client_id), **_CLIENT_OPTIONS)
    vault = Vault(client)
    return VaultGrant(vault, settings.refresh_token_name, _client_credential(settings, vault), clock)


def _client_credential(settings: Settings, vault: Vault) -> ClientCredentialSource:
    from shared.key_vault import CertificateCredential, FederatedCredential, SecretCredential

    match settings.client_auth:
        case "secret":
            return SecretCredential(vault, settings.client_secret_name)
        case "certificate":
            return CertificateCredential(vault, settings.certificate_name)
        case "managed-identity":
            return FederatedCredential(_identity(settings.managed_identity_client_id))


class _CustomerSetting:
    """CUSTOMERS: JSON, or `container/blob` of such JSON, read again when it is older than a minute."""

    def __init__(self, setting: str, account: _Account) -> None:
        self._setting = setting
        self._account = account
        self._lock = threading.Lock()
        self._known: Customers | None = None
        self._read_at = 0.0

    def current(self) -> Customers:
        """Raises SettingsError, naming the entry that is wrong."""
        with self._lock:
            is_blob = not self._setting.startswith("{")
            if self._known is None or (is_blob and time.monotonic() - self._read_at > _CUSTOMERS_MAX_AGE):
                self._known = self._read(is_blob)
                self._read_at = time.monotonic()
            return self._known

    def _read(self, is_blob: bool) -> Customers:
        from shared.manifest import Customers
        from shared.settings import SettingsError

        text = self._setting
        if is_blob:
            container, _, name = text.partition("/")
            text = self._account.blobs.get_blob_client(container, name).download_blob().readall().decode("utf-8-sig")
        try:
            return Customers.parse(text)
        except ValueError as error:
            raise SettingsError(f"CUSTOMERS: {error}") from None
