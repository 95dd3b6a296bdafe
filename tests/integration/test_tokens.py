"""App+User tokens against Entra, the vault and the managed identity as they fail; the refresh token and its life."""

import base64
import json
import logging
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from azure.core.exceptions import ServiceResponseError
from azure.storage.blob import AccountSasPermissions, ResourceTypes, Services, generate_account_sas
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from local.azurite import ACCOUNT, KEY
from local.certificates import make_application_certificate
from local.simulators.faults import Fault, hold, reset_after_reading, reset_before_reading, respond
from local.simulators.server import Simulator
from shared import wiring
from shared.key_vault import _from_pfx
from shared.settings import Settings
from tests.integration.conftest import IMPATIENT, Corner, sweep
from tests.integration.test_intake import tuples

DAY = 86_400.0
NAME = "partner-refresh-token"
PAGE = respond(200, "<html>proxy</html>", {"Content-Type": "text/html"})


def problems(corner: Corner) -> list[tuple[str, str]]:
    return [(a["type"].rpartition(".")[2], a["data"]["problem"]) for a in corner.alerts]


def stored(corner: Corner, age_in_days: float, **attributes: Any) -> str:
    """A refresh token that somebody stored so long ago."""
    token = corner.cloud.entra.new_refresh_token()
    corner.cloud.key_vault.set_secret(NAME, token, age=age_in_days * DAY, **attributes)
    return token


def versions(corner: Corner) -> list[str]:
    return [v.value for v in corner.cloud.key_vault.versions(NAME)]


# The exchange


@pytest.mark.parametrize("path", ["*/openid-configuration", "POST *"])
@pytest.mark.parametrize(
    "kind",
    [
        *(respond(status) for status in (429, 500, 503)),
        respond(502, "<html>bad gateway</html>"),
        PAGE,
        respond(403, "<html>proxy</html>"),
        *(respond(200, body) for body in ("null", "[]", '{"message": "proxy"}', "[" * 100_000)),
        reset_before_reading(),
    ],
    ids=lambda f: f"{f.reply.status} {f.reply.body[:20].decode()}" if f.reply else "reset",
)
def test_an_outage_of_entra_is_nobody_s_fault(corner: Corner, kind: Fault, path: str) -> None:
    """No operator could mend it; the manifest waits and goes on."""
    corner.cloud.entra.faults.add(Fault(on=path, times=None, reply=kind.reply, reset=kind.reset))
    file = corner.deliver("a.csv", tuples(1))
    assert not corner.alerts
    assert corner.report(file)["state"] == "waiting"
    corner.cloud.entra.faults.clear()
    assert corner.wake() == 1
    assert len(corner.results) == 1


def test_entra_s_retry_after_is_heeded(corner: Corner) -> None:
    """The manifest is parked for as long."""
    corner.cloud.entra.faults.add(respond(429, headers={"Retry-After": "3600"}, on="POST *"))
    corner.deliver("a.csv", tuples(1))
    (wake_up,) = corner.wake_ups()
    due = corner.intake.ledger.state(json.loads(wake_up)["key"]).due
    assert due
    assert timedelta(minutes=55) < due - datetime.now(UTC) < timedelta(minutes=65)


@pytest.mark.parametrize(
    ("code", "problem", "words"),
    [
        (50020, "consent-needed", "not of the partner's tenant"),
        (50076, "consent-needed", "without MFA"),
        (50078, "consent-needed", "MFA has expired"),
        (50173, "consent-needed", "revoked"),
        (50177, "consent-needed", "not of the partner's tenant"),
        (53003, "consent-needed", "Conditional access"),
        (65001, "consent-needed", "never consented"),
        (70043, "consent-needed", "sign-in frequency"),
        (90002, "authority-unknown", "PARTNER_TENANT_ID"),
        (700007, "consent-needed", "another app"),
        (700016, "authority-unknown", "PARTNER_CLIENT_ID"),
        (700027, "client-credential-refused", "certificate"),
        (700082, "consent-needed", "90 days"),
        (700213, "client-credential-refused", "federated"),
        (7000215, "client-credential-refused", "secret is wrong"),
        (7000218, "client-credential-refused", "secret, certificate or federated"),
        (7000222, "client-credential-refused", "secret has expired"),
        (9002313, "consent-needed", "Consent again"),
    ],
)
def test_each_refusal_tells_the_one_thing_to_do(
    corner: Corner, code: int, problem: str, words: str, request: pytest.FixtureRequest
) -> None:
    """By its AADSTS code; Entra's own words, which may name people, are not repeated."""
    corner.forget_problem(problem)
    request.addfinalizer(lambda: corner.forget_problem(problem))
    corner.cloud.entra.refuse(code)
    corner.deliver("a.csv", tuples(1))
    (alert,) = corner.alerts
    assert alert["data"]["problem"] == problem
    assert alert["data"]["advice"].startswith(f"AADSTS{code}: ")
    assert words in alert["data"]["advice"]
    assert "Trace" not in alert["data"]["advice"]


# The vault and the identity


def deny(operation: str) -> Callable[[Corner], None]:
    return lambda corner: corner.cloud.key_vault.denied.add(operation)


@pytest.mark.parametrize(
    ("break_it", "problem", "words"),
    [
        (deny("get"), "vault-denied", "Key Vault Secrets User"),
        (lambda c: c.cloud.key_vault.forget(NAME), "secret-missing", NAME),
        (lambda c: c.cloud.key_vault.set_secret(NAME, ""), "secret-missing", NAME),
        (lambda c: c.cloud.key_vault.set_secret(NAME, "x", enabled=False), "secret-missing", "disabled"),
        (lambda c: c.cloud.key_vault.forget("partner-client-secret"), "secret-missing", "partner-client-secret"),
    ],
    ids=["denied", "missing", "empty", "disabled", "no client secret"],
)
def test_a_vault_that_refuses_is_the_operator_s(
    lone: Corner, break_it: Callable[[Corner], None], problem: str, words: str
) -> None:
    """Named with what to do about it."""
    break_it(lone)
    lone.deliver("a.csv", tuples(1))
    (alert,) = lone.alerts
    assert alert["data"]["problem"] == problem
    assert words in alert["data"]["advice"]


def test_a_second_secret_that_is_missing_is_told_when_the_first_is_there(lone: Corner) -> None:
    """As after a first deployment: the alert that stood would name what has been stored by now."""
    vault = lone.cloud.key_vault
    vault.forget(NAME)
    vault.forget("partner-client-secret")
    lone.deliver("a.csv", tuples(1))
    vault.set_secret(NAME, lone.cloud.entra.new_refresh_token())
    for minutes in (10, 20):
        sweep(lone, timedelta(minutes=minutes))
    first, over, second = lone.alerts
    assert (NAME in first["data"]["advice"], over["type"].rpartition(".")[2]) == (True, "resolved")
    assert "partner-client-secret" in second["data"]["advice"]


def another_certificate(corner: Corner) -> None:
    pfx = base64.b64encode(make_application_certificate().pfx).decode()
    corner.cloud.key_vault.set_secret("partner-client-certificate", pfx)


def no_identity(after: int) -> Callable[[Corner], None]:
    """None is assigned; `after`: for so many of its tokens it still was."""
    refused = respond(400, {"message": "No User Assigned or Delegated Managed Identity found"}, times=None, after=after)
    return lambda corner: corner.cloud.managed_identity.faults.add(refused)


@pytest.mark.parametrize(
    ("way", "break_it", "problem"),
    [
        ("secret", lambda c: c.cloud.key_vault.set_secret("partner-client-secret", "x"), "client-credential-refused"),
        ("secret", no_identity(0), "managed-identity-refused"),
        ("certificate", another_certificate, "client-credential-refused"),
        ("certificate", lambda c: c.cloud.key_vault.forget("partner-client-certificate"), "secret-missing"),
        ("managed-identity", no_identity(0), "managed-identity-refused"),
        ("managed-identity", no_identity(1), "managed-identity-refused"),
    ],
)
def test_a_proof_that_is_refused_is_the_operator_s_whichever_it_is(
    lone: Corner, way: str, break_it: Callable[[Corner], None], problem: str
) -> None:
    """The manifest waits, and goes when there is a good one."""
    storage = lone.cloud.azurite.connection_string
    corner = Corner(lone.cloud, settings={"PARTNER_CLIENT_AUTH": way, "ManifestStorage": storage})
    break_it(corner)
    corner.deliver("a.csv", tuples(1))
    assert problems(corner) == [("action-needed", problem)]

    corner.cloud.managed_identity.faults.clear()
    corner.settings["PARTNER_CLIENT_AUTH"] = "secret"
    corner.cloud.key_vault.set_secret("partner-client-secret", corner.cloud.entra.client_secret)
    sweep(corner, timedelta(minutes=10))
    assert len(corner.results) == 1
    assert problems(corner)[1:] == [("resolved", problem)]


def test_what_is_no_vault_of_that_address_is_the_operator_s(lone: Corner) -> None:
    """It gets no token of the app's."""
    lone.settings["KEY_VAULT_URL"] = lone.cloud.key_vault.url.replace("127.0.0.1", "localhost")
    lone.deliver("a.csv", tuples(1))
    assert problems(lone) == [("action-needed", "vault-denied")]
    assert not [r for r in lone.cloud.key_vault.requests if r.bearer]


def pem(kind: str = "") -> str:
    """A certificate as PEM, with its key, or a damaged or another one."""
    made = make_application_certificate()
    text = str(_from_pfx(base64.b64encode(made.pfx).decode())["private_key"])
    if kind == "elliptic":
        curve = generate_private_key(SECP256R1())
        text = curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return (text[:200] if kind == "damaged" else text) + made.certificate.public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    "text",
    ["no certificate", "-----BEGIN PRIVATE KEY-----\nhush", "aHVzaA==", pem("damaged"), pem("elliptic")],
    ids=["none", "no key", "no PFX", "damaged", "elliptic"],
)
def test_a_certificate_that_is_none_is_the_operator_s(lone: Corner, text: str) -> None:
    """Without a word of what it holds."""
    corner = Corner(lone.cloud, settings={"PARTNER_CLIENT_AUTH": "certificate"})
    corner.cloud.key_vault.set_secret("partner-client-certificate", text)
    corner.deliver("a.csv", tuples(1))
    assert problems(corner) == [("action-needed", "client-certificate-unreadable")]
    assert "hush" not in str(corner.alerts)


@pytest.mark.parametrize("order", ["private_key public_certificate", "public_certificate private_key"])
def test_a_certificate_as_pem_serves_as_well(lone: Corner, order: str) -> None:
    """In whichever order its parts stand."""
    corner = Corner(lone.cloud, settings={"PARTNER_CLIENT_AUTH": "certificate"})
    parts = _from_pfx(corner.cloud.key_vault.secret("partner-client-certificate"))
    corner.cloud.key_vault.set_secret("partner-client-certificate", "".join(str(parts[p]) for p in order.split()))
    corner.deliver("a.csv", tuples(1))
    assert corner.cloud.entra.exchanges[-1].method == "certificate"
    assert len(corner.results) == 1


@pytest.mark.parametrize(
    ("server", "way"),
    [("key_vault", "secret"), ("managed_identity", "secret"), ("managed_identity", "managed-identity")],
)
def test_an_outage_on_the_way_to_the_secrets_is_nobody_s_fault(
    new_corner: Callable[..., Corner], server: str, way: str
) -> None:
    """The vault, or the identity that opens it, is down."""
    corner = new_corner(PARTNER_CLIENT_AUTH=way)
    corner.settings["ManifestStorage"] = corner.cloud.azurite.connection_string
    hasty = replace(corner.intake, patience=replace(IMPATIENT, attempts=1))  # the clients are patient enough
    simulator: Simulator = getattr(corner.cloud, server)
    simulator.faults.add(respond(503, times=None))
    path = corner.drop("a.csv", tuples(1))
    hasty.receive(path)
    assert not corner.alerts
    assert corner.report(path)["state"] == "waiting"
    simulator.faults.clear()
    assert corner.wake() == 1
    assert len(corner.results) == 1


def test_an_identity_that_hangs_is_given_up(corner: Corner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call to storage and the vault may wait for it."""
    monkeypatch.setitem(wiring._IDENTITY_OPTIONS, "read_timeout", wiring._IDENTITY_OPTIONS["read_timeout"] / 200)
    corner.cloud.managed_identity.faults.add(hold(released := threading.Event(), times=None))
    with pytest.raises(ServiceResponseError):
        wiring._identity("").get_token("https://vault.azure.net/.default")
    released.set()


@pytest.mark.parametrize(("server", "on"), [("entra", "*"), ("key_vault", "GET *"), ("key_vault", "PUT *")])
def test_no_redirect_takes_a_secret_along(lone: Corner, server: str, on: str) -> None:
    """Nor is a token taken from where it leads."""
    with Simulator(lone.cloud.certificates) as elsewhere:
        away = respond(307, headers={"Location": f"{elsewhere.url}/x"}, on=on, times=None)
        getattr(lone.cloud, server).faults.add(away)
        stored(lone, 8)
        lone.deliver("a.csv", tuples(1))
        assert not elsewhere.requests
    getattr(lone.cloud, server).faults.clear()
    lone.wake()
    assert len(lone.results) == 1


# Its life


@pytest.mark.parametrize("way", ["secret", "certificate", "managed-identity"])
def test_the_rotated_token_is_stored_when_the_stored_one_is_old(lone: Corner, way: str) -> None:
    """With its end, whatever the app proves itself with; the next exchange is made with it."""
    lone.settings["PARTNER_CLIENT_AUTH"] = way
    stored(lone, 8)
    lone.deliver("a.csv", tuples(1))
    newest = lone.cloud.key_vault.versions(NAME)[-1]
    assert newest.value == lone.cloud.entra.exchanges[-1].new_refresh_token
    assert abs(newest.attributes["exp"] - (datetime.now(UTC) + timedelta(days=90)).timestamp()) < 60

    Corner(lone.cloud).deliver("b.csv", tuples(1))
    assert lone.cloud.entra.exchanges[-1].refresh_token == newest.value
    assert len(versions(lone)) == 3


def test_a_young_token_is_left_alone(lone: Corner) -> None:
    """A vault keeps every version for ever."""
    stored(lone, 6)
    before = versions(lone)
    lone.deliver("a.csv", tuples(1))
    assert versions(lone) == before


def test_a_token_that_a_person_stored_meanwhile_is_not_overwritten(lone: Corner) -> None:
    """Somebody consented anew while the old one was exchanged."""
    stored(lone, 8)
    entra, new = lone.cloud.entra, ""

    def consent() -> None:
        nonlocal new
        new = stored(lone, 0)

    entra.before_answering = consent
    lone.deliver("a.csv", tuples(1))
    assert versions(lone)[-1] == new
    assert len(lone.results) == 1


def test_a_failed_store_does_not_stop_the_work(lone: Corner) -> None:
    """It is told, for the working day, and taken back by the first that succeeds."""
    stored(lone, 8)
    lone.cloud.key_vault.denied.add("set")
    lone.deliver("a.csv", tuples(1))
    assert len(lone.results) == 1
    (alert,) = lone.alerts
    assert (alert["data"]["problem"], alert["data"]["severity"]) == ("refresh-token-not-stored", "workday")
    assert "Secrets Officer" in alert["data"]["advice"]

    lone.cloud.key_vault.denied.clear()
    lone.services().token_life.keep()
    assert problems(lone)[1:] == [("resolved", "refresh-token-not-stored")]


def test_a_store_that_meets_an_outage_is_not_told(lone: Corner) -> None:
    """No role is missing; the next exchange stores."""
    stored(lone, 8)
    lone.cloud.key_vault.faults.add(respond(503, on="PUT *", times=None))
    lone.deliver("a.csv", tuples(1))
    assert len(lone.results) == 1
    lone.cloud.key_vault.faults.clear()
    lone.services().token_life.keep()
    assert lone.cloud.key_vault.secret(NAME) == lone.cloud.entra.exchanges[-1].new_refresh_token
    assert not lone.alerts


def test_where_the_failed_store_cannot_even_be_told_the_work_goes_on(lone: Corner) -> None:
    """The alert queue is gone, too."""
    stored(lone, 8)
    lone.cloud.key_vault.denied.add("set")
    path = lone.drop("a.csv", tuples(1))
    assert lone.intake
    lone.cloud.queue_service().delete_queue(lone.queues["ALERT_QUEUE"])
    lone.intake.receive(path)
    assert len(lone.results) == 1


def test_it_is_kept_alive_where_no_manifest_comes(lone: Corner) -> None:
    """Daily, an exchange; no alert where all is well."""
    stored(lone, 8)
    lone.services().token_life.keep()
    assert lone.cloud.key_vault.secret(NAME) == lone.cloud.entra.exchanges[-1].new_refresh_token
    assert not lone.alerts


def test_the_end_is_told_thirty_days_before(lone: Corner) -> None:
    """Where the rotated one could not be stored for two months."""
    stored(lone, 59)
    lone.cloud.key_vault.denied.add("set")
    lone.services().token_life.keep()
    assert problems(lone) == [("action-needed", "refresh-token-not-stored")]
    lone.services(timedelta(days=2)).token_life.keep()
    assert problems(lone)[1:] == [("action-needed", "refresh-token-expiring")]
    assert lone.alerts[-1]["data"]["severity"] == "workday"

    lone.cloud.key_vault.denied.clear()
    lone.services().token_life.keep()
    assert {p for p in problems(lone) if p[0] == "resolved"} == {
        ("resolved", "refresh-token-not-stored"),
        ("resolved", "refresh-token-expiring"),
    }


@pytest.mark.parametrize("way", ["secret", "certificate"])
def test_the_end_of_the_app_s_proof_is_told_in_time(lone: Corner, way: str) -> None:
    """As far as the vault knows it."""
    lone.settings["PARTNER_CLIENT_AUTH"] = way
    name = f"partner-client-{way}"
    ends = int((datetime.now(UTC) + timedelta(days=20)).timestamp())
    lone.cloud.key_vault.set_secret(name, lone.cloud.key_vault.secret(name), exp=ends)
    lone.services().token_life.keep()
    assert problems(lone) == [("action-needed", "client-credential-expiring")]
    lone.cloud.key_vault.set_secret(name, lone.cloud.key_vault.secret(name))
    lone.services().token_life.keep()
    assert problems(lone)[1:] == [("resolved", "client-credential-expiring")]


def test_a_dead_token_is_told_before_a_manifest_needs_it(lone: Corner) -> None:
    """Found by the daily look, and taken back by it."""
    lone.cloud.entra.refuse(50173)
    lone.services().token_life.keep()
    assert problems(lone) == [("action-needed", "consent-needed")]
    lone.services(timedelta(minutes=30)).sweep.run()
    assert len(lone.alerts) == 1
    lone.cloud.entra.refuse(None)
    lone.services().token_life.keep()
    assert problems(lone)[1:] == [("resolved", "consent-needed")]


def test_an_outage_of_a_day_is_not_told(lone: Corner) -> None:
    """Tomorrow is another."""
    lone.cloud.entra.faults.add(respond(503, times=None))
    lone.services().token_life.keep()
    assert not lone.alerts


# Secrets


@pytest.mark.parametrize("way", ["secret", "certificate", "managed-identity"])
def test_no_secret_comes_out_of_anything(lone: Corner, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """All goes well, and much goes wrong, with every log on; then all that came out is searched for what went in."""
    caplog.set_level(logging.DEBUG)
    for logger in ("azure", "msal", "urllib3", "httpx", "httpcore"):
        caplog.set_level(logging.DEBUG, logger)
    storage = {"ManifestStorage": lone.cloud.azurite.connection_string}
    corner = Corner(lone.cloud, settings={"PARTNER_CLIENT_AUTH": way} | storage)
    cloud, shown = corner.cloud, []
    faults = [
        (cloud.entra, respond(400, {"error": "invalid_grant", "error_codes": [50173]}, on="POST *", times=None)),
        (cloud.entra, respond(400, "<html>", on="POST *", times=None)),
        (cloud.entra, reset_before_reading(on="POST *", times=None)),
        (cloud.key_vault, respond(403, times=None)),
        (cloud.key_vault, respond(403, on="PUT *", times=None)),
        (cloud.managed_identity, respond(400, {"message": "No identity"}, times=None)),
        (cloud.partner_center, respond(401, reason="Unauthorized - MFA required", times=None)),
        (cloud.partner_center, respond(401, {"code": "1000"}, times=None)),
        (cloud.partner_center, respond(400, {"code": "3000", "description": "Bad"}, times=None)),
        (cloud.partner_center, reset_after_reading(times=None)),
    ]
    for n, (server, fault) in enumerate([(cloud.entra, Fault(on="nothing")), *faults]):
        server.faults.add(fault)
        stored(corner, 8)
        services = corner.services()
        intake = replace(services.intake, patience=replace(IMPATIENT, attempts=1))
        intake.receive(corner.drop(f"{n}.csv", tuples(1, start=n)))
        services.token_life.keep()
        shown.append(outcome_of(services.token_life.grant.refresh_token))
        shown.append(outcome_of(partial(intake.partner_center.batches, corner.customer)))
        shown.append(repr(services) + repr(Settings.from_environment(corner.environment)))
        server.faults.clear()
    assert sum("Traceback" in text for text in shown) > len(faults)

    container = cloud.blob_service().get_container_client
    blobs = [container(name) for name in ("intake-ledger", "manifest-reports")]
    written = [c.download_blob(b.name).readall().decode() for c in blobs for b in c.list_blobs()]
    told = [text for queue in corner.queues for text in corner.texts(queue)]
    came_out = "\n".join([caplog.text, *shown, *written, *told, *corner.queued()])
    assert "consent-needed" in came_out
    for name, secret in secrets_of(corner).items():
        assert secret not in came_out, name


def test_a_shared_access_signature_comes_out_of_nothing(lone: Corner) -> None:
    """The clients make it a part of each address."""
    signature = generate_account_sas(
        ACCOUNT,
        KEY,
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True, create=True, process=True),
        datetime.now(UTC) + timedelta(hours=1),
        services=Services(blob=True, queue=True),
    )
    azurite = lone.cloud.azurite
    lone.settings["ManifestStorage"] = (
        f"BlobEndpoint={azurite.blob_url};QueueEndpoint={azurite.queue_url};SharedAccessSignature={signature}"
    )
    lone.cloud.entra.refuse(50173)
    path = lone.deliver("a.csv", tuples(1))
    lone.cloud.entra.refuse(None)
    lone.wake()
    came_out = [*lone.texts("RESULT_QUEUE"), *lone.texts("ALERT_QUEUE"), json.dumps(lone.report(path))]
    assert len(came_out) == 4
    assert "sig=" not in "\n".join([*came_out, lone.ledger_text(f"uploads/{lone.key(path)}")])


def outcome_of(call: Callable[[], object]) -> str:
    """All that can be seen of what was returned or raised."""
    try:
        return repr(call())
    except Exception as error:  # noqa: BLE001
        return f"{error!r} {vars(error)} " + "".join(traceback.format_exception(error))


def secrets_of(corner: Corner) -> dict[str, str]:
    """What must be nowhere, by what it is; of long ones a piece in the middle."""
    cloud = corner.cloud
    secrets = {f"refresh token {n}": token for n, token in enumerate(cloud.entra.refresh_tokens)}
    secrets |= {f"access token {n}": token for n, token in enumerate(cloud.entra.issued_tokens)}
    forms = [r.form for r in cloud.entra.requests if r.method == "POST"]
    secrets |= {f"assertion {n}": form.get("client_assertion", "") for n, form in enumerate(forms)}
    secrets |= {f"bearer {n}": r.bearer for n, r in enumerate(cloud.key_vault.requests)}
    secrets["client secret"] = cloud.entra.client_secret
    secrets["certificate"] = cloud.key_vault.secret("partner-client-certificate")
    secrets["private key"] = str(_from_pfx(secrets["certificate"])["private_key"]).splitlines()[9]
    secrets |= {"account's key": KEY, "identity's header": cloud.managed_identity.header}
    return {name: s[len(s) // 2 :][:40] for name, s in secrets.items() if s}
