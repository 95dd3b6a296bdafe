"""App settings, typed. Read on first use: a missing one fails an invocation with its name, not the whole app."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

Text = Annotated[str, StringConstraints(min_length=1)]
# As storage wants containers and queues to be called.
Name = Annotated[str, StringConstraints(min_length=3, max_length=63, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
HttpsUrl = Annotated[str, StringConstraints(pattern=r"^https://[^/\s]+/?$")]
_UNRESOLVED = "@Microsoft.KeyVault("


class SettingsError(Exception):
    """Settings that are missing or wrong, each by its name. Values are not repeated: one could be a secret."""


class StorageSettings(BaseModel):
    """The storage account and what things are called in it: all that an operator's own tool needs to know."""

    model_config = ConfigDict(frozen=True)

    storage_connection: str = Field("", alias="ManifestStorage", repr=False)
    blob_service_uri: str = Field("", alias="ManifestStorage__blobServiceUri")
    queue_service_uri: str = Field("", alias="ManifestStorage__queueServiceUri")
    storage_client_id: str = Field("", alias="ManifestStorage__clientId")
    manifest_container: Name = Field("manifests", alias="MANIFEST_CONTAINER")
    result_queue: Name = Field("device-batch-results", alias="RESULT_QUEUE")
    outcome_queue: Name = Field("device-batch-outcomes", alias="OUTCOME_QUEUE")
    rejection_queue: Name = Field("manifest-rejections", alias="REJECTION_QUEUE")
    alert_queue: Name = Field("operator-alerts", alias="ALERT_QUEUE")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Raises SettingsError naming each setting that is missing, wrong, or a reference that did not resolve."""
        names = {str(f.alias) for f in cls.model_fields.values()} | {"AZURE_CLIENT_ID"}
        # An app setting that was left empty means the same as one that is not there.
        given = {name: value for name in names if (value := environment.get(name, "").strip())}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            faults = "; ".join(_in_words(str(e["loc"][0]) if e["loc"] else "", e["msg"]) for e in error.errors())
            raise SettingsError(f"App settings: {faults}") from None

    @field_validator("*", mode="before")
    @classmethod
    def _resolved(cls, value: object) -> object:
        if isinstance(value, str) and value.startswith(_UNRESOLVED):
            raise ValueError(
                "is a Key Vault reference that did not resolve; check the vault's name, the secret's, and the identity"
            )
        return value

    @model_validator(mode="after")
    def _storage_named(self) -> Self:
        if not self.storage_connection and not (self.blob_service_uri and self.queue_service_uri):
            raise ValueError(
                "ManifestStorage is missing: set it, or both ManifestStorage__blobServiceUri and "
                "ManifestStorage__queueServiceUri"
            )
        return self


class Settings(StorageSettings):
    """The settings table of the README; each field's alias is the name of its setting."""

    customers: Text = Field(alias="CUSTOMERS")
    default_batch_id: str = Field("", alias="DEFAULT_BATCH_ID")
    key_vault_url: HttpsUrl = Field(alias="KEY_VAULT_URL")
    partner_tenant_id: Text = Field(alias="PARTNER_TENANT_ID")
    partner_client_id: Text = Field(alias="PARTNER_CLIENT_ID")
    client_auth: Literal["secret", "certificate", "managed-identity"] = Field("secret", alias="PARTNER_CLIENT_AUTH")
    client_secret_name: Text = Field("partner-client-secret", alias="PARTNER_CLIENT_SECRET_NAME")
    certificate_name: Text = Field("partner-client-certificate", alias="PARTNER_CERTIFICATE_NAME")
    refresh_token_name: Text = Field("partner-refresh-token", alias="PARTNER_REFRESH_TOKEN_NAME")
    partner_center_url: HttpsUrl = Field("https://api.partnercenter.microsoft.com", alias="PARTNER_CENTER_URL")
    authority_host: HttpsUrl = Field("https://login.microsoftonline.com", alias="AUTHORITY_HOST")
    devices_per_request: int = Field(500, alias="DEVICES_PER_REQUEST", ge=1, le=1000)
    max_manifest_bytes: int = Field(536_870_912, alias="MAX_MANIFEST_BYTES", ge=1)
    max_devices: int = Field(100_000, alias="MAX_DEVICES_PER_MANIFEST", ge=1)
    max_batches: int = Field(50, alias="MAX_BATCHES_PER_MANIFEST", ge=1)
    bad_rows_allowed: int = Field(20, alias="BAD_ROWS_ALLOWED", ge=0, le=100)
    hash_check: Literal["verify", "strict", "off"] = Field("verify", alias="HASH_CHECK")
    managed_identity_client_id: str = Field(
        "", validation_alias=AliasChoices("AZURE_CLIENT_ID", "ManifestStorage__clientId")
    )


def _in_words(name: str, message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"{name} is missing" if message == "Field required" else f"{name} {message}".strip()
