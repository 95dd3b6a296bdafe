"""Settings that are wrong are the operators' to mend: they are told, and no manifest is lost or rejected for it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from local.cloud import LocalCloud
from shared import wiring
from shared.customers import CustomersInBlob
from shared.settings import SettingsError
from tests.conftest import new_cloud
from tests.integration.conftest import Corner
from tests.integration.test_intake import tuples


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """Storage of its own: a sweep sees all that lies in it."""
    with new_cloud() as cloud:
        yield cloud


def problems(corner: Corner, code: str) -> list[tuple[str, str | None]]:
    """What was said of a problem. A sweep may take back what another test left."""
    of_it = [e for e in corner.alerts if e["data"]["problem"] == code]
    return [(e["type"].rsplit(".", 1)[1], e["data"].get("advice")) for e in of_it]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEY_VAULT_URL", ""),
        ("PARTNER_TENANT_ID", "@Microsoft.KeyVault(SecretUri=https://vault.example/secrets/tenant)"),
        ("DEVICES_PER_REQUEST", "many"),
        ("CUSTOMERS", '{"contoso": "not-a-guid"}'),
        ("CUSTOMERS", "customers.json"),
    ],
)
def test_a_wrong_setting_is_told_once_and_taken_back_by_the_next_sweep(corner: Corner, name: str, value: str) -> None:
    """The alert names the setting and never its value; the app that starts with right settings ends it."""
    corner.forget_problem("settings-wrong")
    for _ in range(2):
        with pytest.raises(SettingsError, match=name):
            wiring.build_or_tell(corner.environment | {name: value})

    ((kind, advice),) = problems(corner, "settings-wrong")
    assert kind == "action-needed"
    assert name in str(advice)
    assert not value or value not in str(advice)
    assert corner.alerts[0]["data"]["severity"] == "page"

    corner.services().sweep.run()
    assert [kind for kind, _ in problems(corner, "settings-wrong")] == ["action-needed", "resolved"]


def test_a_wrong_setting_is_said_again_each_day(corner: Corner) -> None:
    """No sweep runs meanwhile that could remind."""
    corner.forget_problem("settings-wrong")
    for hours in (0, 1, 25):
        with pytest.raises(SettingsError):
            wiring.build_or_tell(
                corner.environment | {"KEY_VAULT_URL": ""}, lambda h=hours: datetime.now(UTC) + timedelta(hours=h)
            )

    assert len(problems(corner, "settings-wrong")) == 2


def test_another_wrong_setting_is_another_alert(corner: Corner) -> None:
    """Whoever corrected the one that was named must not wait a day to hear of the next."""
    corner.forget_problem("settings-wrong")
    for wrong in ({"KEY_VAULT_URL": ""}, {"CUSTOMERS": "["}, {"CUSTOMERS": "["}):
        with pytest.raises(SettingsError):
            wiring.build_or_tell(corner.environment | wrong)

    said = problems(corner, "settings-wrong")
    assert [kind for kind, _ in said] == ["action-needed", "resolved", "action-needed"]
    assert "KEY_VAULT_URL" in str(said[0][1])
    assert "CUSTOMERS" in str(said[2][1])


@pytest.mark.parametrize(
    "settings",
    [
        {"ManifestStorage__blobServiceUri": ""},
        {"ManifestStorage": "AccountKey=c2VjcmV0"},
        {"ManifestStorage__blobServiceUri": "http://account.example"},
    ],
)
def test_where_the_storage_is_not_known_nobody_can_be_told(corner: Corner, settings: dict[str, str]) -> None:
    """The invocation fails with the setting's name, and not its value."""
    with pytest.raises(SettingsError, match="ManifestStorage") as raised:
        wiring.build_or_tell(corner.environment | settings)

    assert "c2VjcmV0" not in str(raised.value)


@pytest.fixture
def in_blob(corner: Corner) -> Corner:
    corner.settings["CUSTOMERS"] = f"settings/{corner.customer}.json"
    corner.forget_problem("customers-unreadable")
    return corner


def write_customers(corner: Corner, text: bytes | None = None) -> None:
    container = corner.cloud.blob_service().get_container_client("settings")
    if not container.exists():
        container.create_container()
    good = json.dumps({corner.folder: {"customerId": corner.customer, "batchId": "Standard"}}).encode()
    container.upload_blob(f"{corner.customer}.json", good if text is None else text, overwrite=True)


MISSPELT = json.dumps({f"customer-{n}": {"customerId": str(uuid4()), "batchID": "A"} for n in range(1_500)}).encode()


@pytest.mark.parametrize(
    "text",
    [None, b"{", b"\xff\xfe", b'{"contoso": 7}', b"[]", MISSPELT],
    ids=["none", "cut", "no text", "number", "list", "misspelt a thousand times"],
)
def test_without_a_good_copy_manifests_wait(in_blob: Corner, text: bytes | None) -> None:
    """Nobody's folder is called unknown because the list of customers cannot be read."""
    if text is not None:
        write_customers(in_blob, text)
    paths = [in_blob.deliver(f"{n}.csv", tuples(1, start=n)) for n in range(2)]
    assert not in_blob.rejections
    assert not in_blob.posts
    ((kind, advice),) = problems(in_blob, "customers-unreadable")
    assert kind == "action-needed"
    assert f"settings/{in_blob.customer}.json" in str(advice)
    assert str(advice).endswith(".")  # nothing is cut off
    assert (text == MISSPELT) == ("and 1,490 more" in str(advice))

    write_customers(in_blob)
    for path in paths:
        in_blob.intake.receive(path)
    assert len(in_blob.results) == 2
    assert [kind for kind, _ in problems(in_blob, "customers-unreadable")] == ["action-needed", "resolved"]


def test_the_last_good_copy_serves_while_the_blob_is_broken(in_blob: Corner) -> None:
    """Operators are told, suppliers notice nothing; the next sweep takes the alert back, in whatever process."""
    write_customers(in_blob)
    in_blob.deliver("a.csv", tuples(1))
    customers = in_blob.intake.customers
    assert isinstance(customers, CustomersInBlob)
    write_customers(in_blob, b"{")
    customers.check()
    in_blob.deliver("b.csv", tuples(2))
    assert len(in_blob.results) == 2
    assert [kind for kind, _ in problems(in_blob, "customers-unreadable")] == ["action-needed"]

    write_customers(in_blob)
    in_blob.services().sweep.run()
    assert [kind for kind, _ in problems(in_blob, "customers-unreadable")] == ["action-needed", "resolved"]
