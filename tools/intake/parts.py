"""From the settings of storage to what the commands work on. Nothing is created: what is missing shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from azure.identity import DefaultAzureCredential

from shared.account import Account
from shared.alerts import Alerts
from shared.ledger import CONTAINER, Ledger
from shared.settings import SettingsError, StorageSettings
from shared.storage import Manifests, Queues

if TYPE_CHECKING:
    from azure.core.pipeline import PipelineResponse
    from azure.storage.blob import ContainerClient


@dataclass(frozen=True, slots=True)
class Parts:
    manifests: Manifests
    ledger: Ledger
    queues: Queues
    alerts: Alerts
    clock: Callable[[], datetime]


def open_account(environment: Mapping[str, str]) -> Parts:
    """Raises SettingsError where the settings name no account, AzureError where it cannot be reached."""
    settings = StorageSettings.from_environment(environment)
    # `az login` and the like; the app's own identity where this runs beside it.
    identity = DefaultAzureCredential(managed_identity_client_id=settings.storage_client_id or None)
    account = Account(settings, identity, creates=False)
    container = account.container(CONTAINER)
    clock = _clock_of(container)
    queues = Queues(account.channels(), account.retries())
    return Parts(
        manifests=Manifests(account.container(settings.manifest_container)),
        ledger=Ledger(container, clock),
        queues=queues,
        alerts=Alerts(container, queues, clock),
        clock=clock,
    )


def with_file(environment: Mapping[str, str], path: Path) -> dict[str, str]:
    """The settings of a local.settings.json over those of the environment."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None
    values = document.get("Values") if isinstance(document, dict) else None
    if not isinstance(values, dict) or document.get("IsEncrypted"):
        raise SettingsError(f"{path} must be like local.settings.json, with “Values” that are not encrypted")
    return {**environment, **{name: str(value) for name, value in values.items()}}


def _clock_of(container: ContainerClient) -> Callable[[], datetime]:
    """The account's clock. An operator's own may be wrong, and then a manifest that is held would seem to be left."""
    ahead = timedelta(0)

    def compare(response: PipelineResponse) -> None:  # type: ignore[type-arg]
        nonlocal ahead
        if date := response.http_response.headers.get("Date"):
            ahead = parsedate_to_datetime(date) - datetime.now(UTC)

    container.get_container_properties(raw_response_hook=compare)
    return lambda: datetime.now(UTC) + ahead
