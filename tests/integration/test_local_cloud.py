"""The local cloud behaves as the services it stands for, to the clients that the product really uses."""

from __future__ import annotations

import base64
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import msal
import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from local.azurite import Azurite
from local.cloud import CLIENT_ID, TENANT, LocalCloud
from local.simulators.faults import (
    Fault,
    accept_then_hang,
    accept_then_reset,
    reset_after_reading,
    reset_before_reading,
    respond,
    slow,
    trickle,
)
from local.simulators.managed_identity import FEDERATION_AUDIENCE
from local.simulators.partner_center import Throttle

DEVICE = {"SerialNumber": "R9-ZNP67", "ProductKey": None, "HardwareHash": "VEVTVA=="}


@pytest.fixture
def local_cloud(cloud: LocalCloud) -> Iterator[LocalCloud]:
    yield cloud
    cloud.key_vault.denied.clear()


class Partner:
    """A client of Partner Center for one customer of its own."""

    def __init__(self, local_cloud: LocalCloud) -> None:
        self.simulator = local_cloud.partner_center
        self.customer = str(uuid.uuid4())
        self.path = f"/v1/customers/{self.customer}/deviceBatches"
        token = exchange(local_cloud, local_cloud.entra.client_secret)["access_token"]
        self.http = httpx.Client(
            base_url=local_cloud.partner_center.url, headers={"Authorization": f"Bearer {token}"}, timeout=10
        )

    def create(self, batch: str = "Standard", request_id: str | None = None, **options: Any) -> httpx.Response:
        headers = {"MS-RequestId": request_id or str(uuid.uuid4())}
        return self.http.post(self.path, json={"BatchId": batch, "Devices": [DEVICE]}, headers=headers, **options)

    @property
    def batches(self) -> dict[str, list[dict[str, Any]]]:
        return self.simulator.batches(self.customer)

    def last_post(self) -> Any:
        return [request for request in self.simulator.posts() if self.customer in request.path][-1]


@pytest.fixture
def partner(local_cloud: LocalCloud) -> Iterator[Partner]:
    partner = Partner(local_cloud)
    with partner.http:
        yield partner


def exchange(local_cloud: LocalCloud, credential: Any) -> dict[str, Any]:
    authority = f"{local_cloud.entra.url}/{TENANT}"
    application = msal.ConfidentialClientApplication(
        CLIENT_ID, client_credential=credential, authority=authority, instance_discovery=False
    )
    scopes = [f"{local_cloud.partner_center.url}/user_impersonation"]
    return application.acquire_token_by_refresh_token(local_cloud.key_vault.secret("partner-refresh-token"), scopes)


# Storage and managed identity


def test_the_managed_identity_reaches_blobs_and_queues(local_cloud: LocalCloud) -> None:
    local_cloud.drop("contoso/März.csv", b"rows", {"batchid": "Standard"})
    with (
        ManagedIdentityCredential() as credential,
        BlobServiceClient(local_cloud.settings()["ManifestStorage__blobServiceUri"], credential) as blobs,
        QueueServiceClient(local_cloud.settings()["ManifestStorage__queueServiceUri"], credential) as queues,
    ):
        blob = blobs.get_blob_client("manifests", "contoso/März.csv").download_blob()
        queue = queues.create_queue(f"q-{uuid.uuid4()}")
        queue.send_message("told", time_to_live=-1)
        assert (blob.readall(), blob.properties.metadata) == (b"rows", {"batchid": "Standard"})
        assert [message.content for message in queue.receive_messages()] == ["told"]


def test_storage_refuses_a_token_for_another_service(local_cloud: LocalCloud) -> None:
    class ForTheVault(ManagedIdentityCredential):
        def get_token_info(self, *_: str, **__: Any) -> Any:
            return super().get_token_info("https://vault.azure.net/.default")

    with (
        ForTheVault() as credential,
        BlobServiceClient(local_cloud.settings()["ManifestStorage__blobServiceUri"], credential) as blobs,
        pytest.raises(HttpResponseError, match="Invalid token audience"),
    ):
        list(blobs.list_containers())


def test_the_identity_endpoint_wants_its_header(local_cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "guessed")
    with (
        ManagedIdentityCredential() as credential,
        pytest.raises(Exception, match="X-IDENTITY-HEADER is missing"),
    ):
        credential.get_token("https://storage.azure.com/.default")


def test_azurite_restarts_on_its_ports_with_its_data(local_cloud: LocalCloud, tmp_path: Path) -> None:
    with Azurite(local_cloud.certificates, tmp_path / "storage") as azurite:
        before = azurite.blob_url
        with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
            blobs.create_container("kept")
            azurite.stop()
            azurite.start()
            assert [container.name for container in blobs.list_containers()] == ["kept"]
        assert azurite.blob_url == before


# Key Vault


def test_secrets_are_kept_in_versions(local_cloud: LocalCloud) -> None:
    name = f"secret-{uuid.uuid4()}"
    with ManagedIdentityCredential() as credential, SecretClient(local_cloud.key_vault.url, credential) as vault:
        first = vault.set_secret(name, "one")
        vault.set_secret(name, "two", content_type="text/plain", tags={"rotated": "yes"})
        newest = vault.get_secret(name)
        assert (newest.value, newest.properties.content_type) == ("two", "text/plain")
        assert newest.properties.tags == {"rotated": "yes"}
        assert vault.get_secret(name, first.properties.version).value == "one"
        assert len(list(vault.list_properties_of_secret_versions(name))) == 2


def test_secrets_may_be_missing_or_denied(local_cloud: LocalCloud) -> None:
    with ManagedIdentityCredential() as credential, SecretClient(local_cloud.key_vault.url, credential) as vault:
        with pytest.raises(ResourceNotFoundError, match="SecretNotFound"):
            vault.get_secret("nowhere")
        local_cloud.key_vault.denied.add("set")
        assert vault.get_secret("partner-client-secret").value == local_cloud.entra.client_secret
        with pytest.raises(HttpResponseError, match="Forbidden") as denied:
            vault.set_secret("partner-client-secret", "another")
        assert denied.value.status_code == 403


def test_the_vault_shows_nothing_without_a_token(local_cloud: LocalCloud) -> None:
    answer = httpx.get(f"{local_cloud.key_vault.url}/secrets/partner-client-secret")
    assert answer.status_code == 401
    assert local_cloud.entra.client_secret not in answer.text


# Entra


def certificate_credential(local_cloud: LocalCloud) -> dict[str, str]:
    pfx = base64.b64decode(local_cloud.key_vault.secret("partner-client-certificate"))
    key, certificate, _ = pkcs12.load_key_and_certificates(pfx, None)
    assert key is not None
    assert certificate is not None
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {
        "private_key": pem.decode(),
        "public_certificate": certificate.public_bytes(Encoding.PEM).decode(),
    }


def federated_credential(audience: str) -> dict[str, Any]:
    def assertion() -> str:
        with ManagedIdentityCredential() as identity:
            return identity.get_token(f"{audience}/.default").token

    return {"client_assertion": assertion}


@pytest.mark.parametrize("method", ["secret", "certificate", "federated"])
def test_a_refresh_token_becomes_an_access_token_with_mfa(local_cloud: LocalCloud, method: str) -> None:
    credential: Any = local_cloud.entra.client_secret
    if method == "certificate":
        credential = certificate_credential(local_cloud)
    elif method == "federated":
        credential = federated_credential(FEDERATION_AUDIENCE)
    answer = exchange(local_cloud, credential)
    claims = local_cloud.entra.claims_of(answer["access_token"])
    assert claims is not None
    assert "mfa" in claims["amr"]
    assert answer["refresh_token"] in local_cloud.entra.refresh_tokens
    assert local_cloud.entra.exchanges[-1].method == method


@pytest.mark.parametrize("kind", ["secret", "certificate", "federated"])
def test_wrong_credentials_get_nothing(local_cloud: LocalCloud, kind: str) -> None:
    credential: Any = "wrong"
    expected = 7000215
    if kind == "certificate":
        # The right key, under the name of a certificate that nobody registered.
        credential, expected = {**certificate_credential(local_cloud), "thumbprint": "0" * 40}, 700027
        del credential["public_certificate"]
    elif kind == "federated":
        credential, expected = federated_credential("https://storage.azure.com"), 700213
    answer = exchange(local_cloud, credential)
    assert (answer["error"], answer["error_codes"]) == ("invalid_client", [expected])


def test_a_refusal_reads_as_entras_own(local_cloud: LocalCloud) -> None:
    local_cloud.entra.refuse(700082)
    answer = exchange(local_cloud, local_cloud.entra.client_secret)
    assert answer["error"] == "invalid_grant"
    assert answer["error_description"].startswith("AADSTS700082: The refresh token has expired")
    assert local_cloud.entra.exchanges[-1].refused == 700082


# Partner Center


def test_a_batch_is_created_listed_appended_and_followed_to_its_end(partner: Partner) -> None:
    created = partner.create("Kiosk 1")
    assert (created.status_code, created.content) == (202, b"")
    assert created.headers["Location"].startswith(f"/customers/{partner.customer}/batchJobStatus/")
    assert partner.create("KIOSK 1").status_code == 409

    # The documents' own call: a bare array, names in any case, the path in any case.
    more = [{"serialnumber": "S2", "oemmanufacturername": "Contoso", "modelname": "One"}] * 120
    appended = partner.http.post(f"{partner.path.lower()}/kiosk%201/devices", json=more)
    assert appended.status_code == 202
    assert appended.headers["Location"] != created.headers["Location"]
    assert partner.batches == {"Kiosk 1": [DEVICE, *more]}

    listed = partner.http.get(partner.path).json()
    assert [(item["id"], item["devicesCount"]) for item in listed["items"]] == [("Kiosk 1", 121)]
    page = partner.http.get(f"{partner.path}/Kiosk 1/devices").json()
    rest = partner.http.get(
        f"{partner.path}/Kiosk 1/devices", headers={"MS-ContinuationToken": page["continuationToken"]}
    ).json()
    assert (len(page["items"]), len(rest["items"]), rest.get("continuationToken")) == (100, 21, None)

    polls = [partner.http.get(f"/v1{created.headers['Location']}").json() for _ in range(3)]
    assert [poll["status"] for poll in polls] == ["queued", "processing", "finished"]
    assert [device["serialNumber"] for device in polls[-1]["devicesStatus"]] == ["R9-ZNP67"]


def test_a_job_says_what_became_of_each_device(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partner.simulator, "queued_polls", 0)
    monkeypatch.setattr(partner.simulator, "processing_polls", 0)
    monkeypatch.setitem(partner.simulator.device_errors, "elsewhere", "808")
    partner.create("Standard")
    devices = [{"HardwareHash": "elsewhere"}, {"HardwareHash": "new"}, DEVICE]
    appended = partner.http.post(f"{partner.path}/Standard/devices", json=devices)
    status = partner.http.get(f"/v1{appended.headers['Location']}").json()
    assert status["status"] == "finished"
    assert [it["errorCode"] for it in status["devicesStatus"]] == ["808", None, "806"]
    assert "serialNumber" not in status["devicesStatus"][0]


def test_a_request_id_is_carried_out_once(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    request_id = str(uuid.uuid4())
    first, again = partner.create(request_id=request_id), partner.create(request_id=request_id.upper())
    assert (again.status_code, again.headers["Location"]) == (202, first.headers["Location"])
    assert partner.batches == {"Standard": [DEVICE]}
    monkeypatch.setattr(partner.simulator, "remembers_request_ids", False)
    assert partner.create(request_id=request_id).status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        b"{nonsense",
        b"[]",
        json.dumps({"Devices": [DEVICE]}).encode(),
        json.dumps({"BatchId": "B", "Devices": []}).encode(),
        json.dumps({"BatchId": "B", "Devices": [{"SerialNumber": "alone"}]}).encode(),
        json.dumps({"BatchId": "B", "Devices": [{"HardwareHash": 7}]}).encode(),
        json.dumps({"BatchId": "B", "Devices": [DEVICE] * 1001}).encode(),
    ],
)
def test_nonsense_is_refused(partner: Partner, body: bytes) -> None:
    answer = partner.http.post(partner.path, content=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"code", "description", "data", "source"}
    assert partner.batches == {}


def test_customers_may_be_unknown(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partner.simulator, "known_customers", {str(uuid.uuid4())})
    assert (partner.create().status_code, partner.create().json()["code"]) == (404, "60003")
    assert partner.http.get("/v1/customers/contoso/deviceBatches").json()["code"] == "900118"
    monkeypatch.setattr(partner.simulator, "known_customers", {partner.customer.upper()})
    assert partner.http.post(f"{partner.path}/nowhere/devices", json=[DEVICE]).status_code == 404


@pytest.mark.parametrize(
    ("style", "start"),
    [("no-leading-slash", "customers/"), ("versioned", "/v1/customers/"), ("absolute", "https://127.0.0.1:"),
     ("other-host", "https://api."), ("missing", "")],
)  # fmt: skip
def test_locations_come_in_every_shape(
    partner: Partner, monkeypatch: pytest.MonkeyPatch, style: str, start: str
) -> None:
    monkeypatch.setattr(partner.simulator, "location_style", style)
    location = partner.create().headers.get("Location")
    assert location is None if style == "missing" else location.startswith(start)
    assert partner.last_post().location == location


def test_tokens_are_checked(local_cloud: LocalCloud, partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    assert httpx.get(f"{partner.simulator.url}{partner.path}").status_code == 401
    local_cloud.entra.revoke_access_tokens()
    revoked = partner.create()
    assert (revoked.status_code, revoked.headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')
    monkeypatch.setattr(local_cloud.entra, "amr", ["pwd"])
    with Partner(local_cloud).http as without_mfa:
        answer = without_mfa.get(partner.path)
    assert (answer.status_code, answer.reason_phrase) == (401, "Unauthorized - MFA required")
    assert (answer.headers["Transfer-Encoding"], answer.content) == ("chunked", b"")


def test_too_many_requests_are_throttled_until_the_window_ends(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partner.simulator, "throttle", Throttle(requests=2, seconds=57))
    monkeypatch.setattr(partner.simulator, "_window", (float("-inf"), 0))
    answers = [partner.http.get(partner.path) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    seconds = answers[-1].headers["Retry-After"]
    assert 1 <= int(seconds) <= 57
    assert answers[-1].json()["message"] == f"Rate limit is exceeded. Try again in {seconds} seconds."
    monkeypatch.setattr(partner.simulator, "_window", (time.monotonic() - 57, 2))
    assert partner.http.get(partner.path).status_code == 200


def test_bodies_may_be_chunked_or_await_a_continue(local_cloud: LocalCloud, partner: Partner) -> None:
    body = json.dumps({"BatchId": "B", "Devices": [DEVICE]}).encode()
    assert partner.http.post(partner.path, content=iter([body[:9], body[9:]])).status_code == 202
    assert partner.last_post().body == body

    trust = ssl.create_default_context(cafile=local_cloud.certificates.ca)
    with (
        socket.create_connection(("127.0.0.1", partner.simulator.port), timeout=10) as plain,
        trust.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        authorization = partner.http.headers["Authorization"]
        head = f"POST {partner.path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n"
        secured.sendall(f"{head}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert secured.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n")
        secured.sendall(body)
        assert secured.recv(1000).startswith(b"HTTP/1.1 409 Conflict\r\n")


def test_a_client_that_stalls_in_its_handshake_holds_up_nobody(partner: Partner) -> None:
    with socket.create_connection(("127.0.0.1", partner.simulator.port)):
        assert partner.create(timeout=9).status_code == 202  # the stalled one is given ten


# Faults


def test_a_planned_answer_replaces_the_real_one_so_often(partner: Partner) -> None:
    partner.simulator.faults.add(
        respond(503, "<html>", {"Retry-After": "3"}, "Gone fishing", on="post */deviceBatches", times=2)
    )
    answers = [partner.create() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 202]
    assert (answers[0].reason_phrase, answers[0].text) == ("Gone fishing", "<html>")
    assert answers[0].headers["Retry-After"] == "3"
    assert partner.simulator.faults.left == []


@pytest.mark.parametrize(
    ("fault", "was_read", "carried_out"),
    [
        (reset_before_reading(), False, False),
        (reset_after_reading(), True, False),
        (accept_then_reset(), True, True),
        (accept_then_hang(30), True, True),
    ],
)
def test_a_lost_answer_leaves_the_request_where_the_fault_says(
    partner: Partner, fault: Fault, was_read: bool, carried_out: bool
) -> None:
    partner.simulator.faults.add(fault)
    request_id = str(uuid.uuid4())
    # Hanging ends as a timeout; a reset as any of the others, whatever the client was at.
    with pytest.raises(httpx.TransportError) as lost:
        partner.create(request_id=request_id, timeout=httpx.Timeout(60, read=0.5 if fault.delay else 60))
    assert isinstance(lost.value, httpx.ReadTimeout) == bool(fault.delay)
    assert (bool(partner.last_post().body), bool(partner.batches)) == (was_read, carried_out)
    assert partner.last_post().status is None
    promised = partner.last_post().location
    again = partner.create(request_id=request_id)
    assert again.status_code == 202
    assert promised == (again.headers["Location"] if carried_out else None)


@pytest.mark.parametrize("fault", [slow(0.4), trickle(1000)])
def test_an_answer_may_come_slowly(partner: Partner, fault: Fault) -> None:
    partner.simulator.faults.add(fault)
    began = time.monotonic()
    assert partner.create().status_code == 202
    assert time.monotonic() - began > 0.3


def test_a_fault_may_strike_a_part_of_the_requests(partner: Partner) -> None:
    partner.simulator.faults.add(respond(500, on="GET *", times=None, fraction=0.5))
    statuses = [partner.http.get(partner.path).status_code for _ in range(60)]
    assert 10 < statuses.count(500) < 50
    assert statuses.count(500) + statuses.count(200) == 60


def test_latency_is_added_to_every_answer(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partner.simulator, "latency", 0.2)
    began = time.monotonic()
    assert [partner.http.get(partner.path).status_code for _ in range(2)] == [200, 200]
    assert time.monotonic() - began > 0.4


# Its own end


def listens(url: str) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), 1):
        return True
    return False


def test_nothing_is_left_after_a_failure() -> None:
    threads = threading.active_count()
    urls: list[str] = []
    with suppress(ZeroDivisionError), LocalCloud() as cloud:
        folder = cloud.certificates.ca.parent
        urls += [cloud.azurite.blob_url, cloud.partner_center.url, cloud.managed_identity.url]
        assert all(listens(url) for url in urls)
        _ = 1 / 0
    assert not any(listens(url) for url in urls)
    assert not folder.exists()
    deadline = time.monotonic() + 30
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads


def test_azurite_dies_with_a_killed_parent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # a killed program cannot clean up its folder
    program = (
        "import sys, time; from local.cloud import LocalCloud\n"
        "with LocalCloud() as cloud: print(cloud.azurite.blob_url, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert listens(url)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while listens(url) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not listens(url)
