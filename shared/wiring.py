"""Composition root: from the app settings to the use cases. Only this module knows everything.

Its own imports are light: the app is indexed on a cold start, and what the first invocation needs is imported by it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

    from shared.alerts import Alerts
    from shared.intake import Intake
    from shared.key_vault import ClientCredentialSource, Vault, VaultGrant
    from shared.settings import Settings, SettingsError
    from shared.sweep import Sweep
    from shared.token_life import TokenLife

# A call that hangs must not eat an invocation: connect and read in seconds, then a few repeats.
_CLIENT_OPTIONS: dict[str, Any] = {
    "connection_timeout": 10,
    "read_timeout": 60,
    "retry_total": 4,
    "retry_backoff_factor": 0.5,
    "permit_redirects": False,  # a secret that is written would go along
}
# Each call of the clients above may ask for a token, and repeats that, too.
_IDENTITY_OPTIONS: dict[str, Any] = {
    "connection_timeout": 10,
    "read_timeout": 20,
    "retry_total": 2,
    "retry_backoff_factor": 0.5,
}

logger = logging.getLogger(__name__)

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
            _services = build_or_tell(os.environ)
        return _services


def _now() -> datetime:
    return datetime.now(UTC)


def build_or_tell(environment: Mapping[str, str], clock: Callable[[], datetime] = _now) -> Services:
    """The same as `build`; wrong settings are the operators' to mend, so they are told."""
    from shared.settings import SettingsError

    try:
        return build(environment, clock)
    except SettingsError as error:
        _tell(error, environment, clock)
        raise


def _tell(error: SettingsError, environment: Mapping[str, str], clock: Callable[[], datetime]) -> None:
    """Where the settings of storage, at least, are right. No sweep runs meanwhile: each failed one reminds instead."""
    from azure.core.exceptions import AzureError

    from shared.faults import OperatorsFault
    from shared.settings import SettingsError

    logger.error("settings.wrong %s", error)
    advice = f"{error}. Correct the setting; no manifest is lost, all are found when the app runs again."
    try:
        alerts = _alerts(environment, clock)
        problem = alerts.raise_for(OperatorsFault("settings-wrong", advice))
        if known := alerts.open().get(problem):
            alerts.remind(problem, known, list, 0)
    except (SettingsError, AzureError) as also:
        logger.error("alert.not_sent problem=settings-wrong %s", type(also).__name__)


def _alerts(environment: Mapping[str, str], clock: Callable[[], datetime]) -> Alerts:
    """Alerts, from the settings of storage alone."""
    from shared.account import Account
    from shared.alerts import Alerts
    from shared.ledger import CONTAINER as LEDGER
    from shared.settings import StorageSettings
    from shared.storage import Queues

    settings = StorageSettings.from_environment(environment)
    account = Account(settings, _identity(settings.storage_client_id))
    return Alerts(account.container(LEDGER), Queues(account.channels(), account.retries()), clock)


def build(environment: Mapping[str, str], clock: Callable[[], datetime] = _now) -> Services:
    """The use cases that these app settings describe. Raises SettingsError, naming what is missing or wrong."""
    from shared.account import Account
    from shared.alerts import Alerts
    from shared.customers import customers_of
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
    account = Account(settings, _identity(settings.storage_client_id))
    ledger = account.container(LEDGER)
    queues = Queues(account.channels(), account.retries())
    app = AppRegistration(
        settings.authority_host,
        settings.partner_tenant_id,
        settings.partner_client_id,
        settings.partner_center_url,
    )
    alerts = Alerts(ledger, queues, clock)
    customers = customers_of(settings.customers, account.blobs, alerts)
    grant = _grant(settings, clock)
    tokens = AppUserTokens(app, grant, alerts)
    intake = Intake(
        manifests=Manifests(account.blobs.get_container_client(settings.manifest_container)),
        customers=customers,
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
        Sweep(
            intake.manifests,
            intake.ledger,
            queues,
            alerts,
            clock,
            (customers.check, partial(alerts.resolve, "settings-wrong")),  # they are right: else there were no services
        ),
        TokenLife(tokens, grant, alerts, clock),
    )


def _identity(client_id: str) -> TokenCredential:
    from shared.identity import Identity

    return Identity(client_id=client_id, **_IDENTITY_OPTIONS) if client_id else Identity(**_IDENTITY_OPTIONS)


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
