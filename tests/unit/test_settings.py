"""App settings: the documented names and defaults, and errors that name a setting and never its value."""

import json
import re
from pathlib import Path

import pytest

from shared.settings import Settings, SettingsError

REQUIRED = {
    "ManifestStorage": "UseDevelopmentStorage=true",
    "CUSTOMERS": "{}",
    "KEY_VAULT_URL": "https://vault.example",
    "PARTNER_TENANT_ID": "tenant",
    "PARTNER_CLIENT_ID": "client",
}
DEFAULTS = {
    "MANIFEST_CONTAINER": "manifests",
    "RESULT_QUEUE": "device-batch-results",
    "OUTCOME_QUEUE": "device-batch-outcomes",
    "REJECTION_QUEUE": "manifest-rejections",
    "ALERT_QUEUE": "operator-alerts",
    "DEFAULT_BATCH_ID": "",
    "PARTNER_CLIENT_AUTH": "secret",
    "PARTNER_CLIENT_SECRET_NAME": "partner-client-secret",
    "PARTNER_CERTIFICATE_NAME": "partner-client-certificate",
    "PARTNER_REFRESH_TOKEN_NAME": "partner-refresh-token",
    "PARTNER_CENTER_URL": "https://api.partnercenter.microsoft.com",
    "AUTHORITY_HOST": "https://login.microsoftonline.com",
    "DEVICES_PER_REQUEST": 500,
    "MAX_MANIFEST_BYTES": 536_870_912,
    "MAX_DEVICES_PER_MANIFEST": 100_000,
    "MAX_BATCHES_PER_MANIFEST": 50,
    "BAD_ROWS_ALLOWED": 20,
}
IDENTITY = {
    "ManifestStorage__blobServiceUri": "https://b.example",
    "ManifestStorage__queueServiceUri": "https://q.example",
}
SAMPLE = Path(__file__).resolve().parents[2] / "local.settings.sample.json"


def by_alias(settings: Settings) -> dict[str, object]:
    return {str(f.alias): getattr(settings, name) for name, f in Settings.model_fields.items()}


def names_in_the_sample() -> set[str]:
    if not SAMPLE.is_file():
        pytest.skip("there is no local.settings.sample.json yet")
    return set(json.loads(SAMPLE.read_text(encoding="utf-8"))["Values"])


def is_named(setting: str, names: set[str]) -> bool:
    """The ways to name the storage account stand for one another."""
    storage = "ManifestStorage"
    return setting in names or (setting.startswith(storage) and any(n.startswith(storage) for n in names))


def test_defaults_are_the_documented_ones() -> None:
    """With the required settings alone, every other has its documented default."""
    settings = by_alias(Settings.from_environment(REQUIRED))
    assert {name: settings[name] for name in DEFAULTS} == DEFAULTS


def test_empty_setting_counts_as_absent() -> None:
    """A setting that was left empty has its default."""
    assert Settings.from_environment(REQUIRED | {"RESULT_QUEUE": " "}).result_queue == "device-batch-results"


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_missing_setting_is_named(name: str, how: str) -> None:
    """Each required setting that is missing is named."""
    environment = {k: v for k, v in REQUIRED.items() if k != name} | ({name: ""} if how == "empty" else {})
    with pytest.raises(SettingsError, match=f"{name} is missing"):
        Settings.from_environment(environment)


def test_all_missing_settings_are_named_at_once() -> None:
    """Nobody has to deploy four times to learn of four settings."""
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({})
    assert all(name in str(raised.value) for name in REQUIRED if name != "ManifestStorage")


def test_storage_by_identity() -> None:
    """The account is named by connection string, or by the addresses of both its services."""
    without = {k: v for k, v in REQUIRED.items() if k != "ManifestStorage"}
    assert Settings.from_environment(without | IDENTITY).queue_service_uri == "https://q.example"
    for name in IDENTITY:
        with pytest.raises(SettingsError, match="ManifestStorage is missing"):
            Settings.from_environment(without | {name: IDENTITY[name]})


@pytest.mark.parametrize("name", [*REQUIRED, "AUTHORITY_HOST", "DEVICES_PER_REQUEST", "AZURE_CLIENT_ID"])
def test_unresolved_key_vault_reference_is_refused_by_name(name: str) -> None:
    """A Key Vault reference that did not resolve is no value."""
    with pytest.raises(SettingsError, match=f"{name} is a Key Vault reference that did not resolve"):
        Settings.from_environment(REQUIRED | {name: "@Microsoft.KeyVault(SecretUri=https://v/s)"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEY_VAULT_URL", "http://hush.example"),
        ("PARTNER_CENTER_URL", "https://hush.example/path"),
        ("AUTHORITY_HOST", "hush"),
        ("MANIFEST_CONTAINER", "Hush"),
        ("RESULT_QUEUE", "hush_results"),
        ("ALERT_QUEUE", "hush.alerts"),
        ("PARTNER_CLIENT_AUTH", "hush"),
        ("DEVICES_PER_REQUEST", "hush"),
        ("DEVICES_PER_REQUEST", "1001"),
        ("DEVICES_PER_REQUEST", "0"),
        ("BAD_ROWS_ALLOWED", "101"),
        ("BAD_ROWS_ALLOWED", "-1"),
        ("MAX_BATCHES_PER_MANIFEST", "0"),
        ("KEY_VAULT_URL", "@Microsoft.KeyVault(hush)"),
    ],
)
def test_wrong_setting_is_named_and_its_value_is_not(name: str, value: str) -> None:
    """An error names the setting and repeats no value: it could be a secret."""
    with pytest.raises(SettingsError, match=name) as raised:
        Settings.from_environment(REQUIRED | {name: value})
    assert "hush" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_connection_string_is_not_shown() -> None:
    """The one setting that can hold a key does not show it."""
    assert "AccountKey" not in repr(Settings.from_environment(REQUIRED | {"ManifestStorage": "AccountKey=hush"}))


def test_sample_names_every_setting() -> None:
    """Whoever copies the sample finds every setting in it."""
    names = names_in_the_sample()
    known = {str(f.alias) for f in Settings.model_fields.values() if f.alias}
    assert {n for n in known if not is_named(n, names)} == set()


def test_sample_names_what_the_design_names(samples: Path) -> None:
    """The sample has every setting that the design's table lists."""
    design = samples.parent / "DESIGN.md"
    if not design.is_file():
        pytest.skip(f"the design is not at {design}")
    section = design.read_text(encoding="utf-8").split("## App settings")[1].split("\n## ")[0]
    first_cells = "".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    listed = {n for n in re.findall(r"`([A-Za-z_]+)`", first_cells) if not n.startswith("__")}
    assert len(listed) > 20
    names = names_in_the_sample()
    assert {n for n in listed if not is_named(n, names)} == set()
