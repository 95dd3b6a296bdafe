"""What no event brought, and what nobody holds, is found within one sweep of becoming due."""

import json
import signal
import ssl
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.client import HTTPSConnection

import httpx
import pytest
from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError
from azure.storage.blob import generate_container_sas

from local.azurite import ACCOUNT, KEY
from local.simulators.faults import Reply, respond
from local.simulators.gateway import Gateway
from local.simulators.server import ReceivedRequest
from shared.ledger import TERM
from shared.storage import is_outage
from shared.sweep import GRACE
from shared.wiring import Services
from tests.integration.conftest import Corner, Die, gated, sweep
from tests.integration.test_intake import serials, tuples
from tools.intake.__main__ import main

OUT_OF_REACH = TERM + timedelta(seconds=5)  # a claim that nobody renewed is over then


def test_a_manifest_that_raised_no_event_is_found(lone: Corner) -> None:
    """Renamed into place by SFTP, dropped before the subscription, its event lost: it goes the same way."""
    path = lone.drop("a.csv", tuples(2))
    assert not sweep(lone, timedelta(0))

    (found,) = sweep(lone, GRACE + timedelta(seconds=5))
    assert json.loads(found)["name"] == path
    assert len(lone.results) == 1
    assert not sweep(lone, timedelta(hours=9))


def test_what_many_sweeps_found_is_read_once(lone: Corner) -> None:
    """Ten thousand files at once take hours, and each sweep meanwhile finds again what is left of them."""
    with gated(lone.cloud) as one:
        path = one.corner.drop("a.csv", tuples(2))
        for minutes in (10, 20, 30):
            one.corner.services(timedelta(minutes=minutes)).sweep.run()
        assert len(one.corner.carry_out(one.corner.intake)) == 3
        assert len(one.corner.results) == 1
        assert [r.method for r in one.blobs.requests if r.path.endswith(path)] == ["GET"]


def test_what_is_no_manifest_is_not_swept_up(lone: Corner) -> None:
    """Nor is an empty blob within its first hour; after that it is answered."""
    for name in (".hidden", "a.part", "a.csv.report.json"):
        lone.drop(name, b"x")
    lone.drop("empty.csv", b"")
    assert not sweep(lone, timedelta(minutes=50))

    assert len(sweep(lone, timedelta(minutes=65))) == 1
    assert lone.rejections[0]["data"]["reason"] == "empty-manifest"


@pytest.mark.parametrize("step", [3, 8, 12, 14])
def test_a_manifest_whose_holder_died_is_gone_on_with(lone: Corner, die: Die, step: int) -> None:
    """No event comes again, and nothing depends on a poison queue."""
    path = lone.drop("a.csv", tuples(2))
    die(lone, path, step)
    assert not sweep(lone, timedelta(seconds=1))

    assert len(sweep(lone, TERM + GRACE + timedelta(seconds=5))) == 1
    assert serials(lone.batches["Standard"]) == ["SN-00000", "SN-00001"]
    assert {e["data"]["part"] for e in lone.results} == {1}
    assert not sweep(lone, timedelta(hours=9))


def test_what_a_dead_holder_left_is_due_when_its_term_is_over(lone: Corner, die: Die) -> None:
    """The next sweep may be ten minutes off, and within fifteen the supplier is to have an answer."""
    path = lone.drop("a.csv", tuples(2))
    die(lone, path, 2)
    assert not lone.report_files(path)

    (found,) = sweep(lone, OUT_OF_REACH)
    assert json.loads(found)["key"] == lone.key(path)
    assert lone.report(path)["state"] == "submitted"


def test_a_lost_wake_up_is_made_up_for(lone: Corner) -> None:
    """The parked manifest's message is gone; its record says when it was due."""
    on = f"GET */{lone.customer}/deviceBatches"
    lone.cloud.partner_center.faults.add(respond(429, headers={"Retry-After": "60"}, on=on))
    lone.deliver("a.csv", tuples(2))
    lone.cloud.queue_service().get_queue_client("intake-retries").clear_messages()
    assert not sweep(lone, timedelta(seconds=50))

    assert len(sweep(lone, timedelta(seconds=75) + GRACE)) == 1
    assert len(lone.results) == 1


def test_a_manifest_that_ends_every_process_is_stalled(lone: Corner, die: Die) -> None:
    """It is not looped for ever: after five starts an operator is told, once."""
    path = lone.drop("a.csv", tuples(2))
    for n in range(5):
        assert die(lone, path, 9, after=n * OUT_OF_REACH) == -signal.SIGKILL
    posts = len(lone.posts)

    assert len(sweep(lone, 5 * OUT_OF_REACH + GRACE)) == 1
    assert len(lone.posts) == posts
    (alert,) = lone.alerts
    assert alert["data"]["problem"] == "manifest-stalled"
    assert not sweep(lone, timedelta(hours=9))


@pytest.mark.parametrize("how", [["its id"], ["--all-stalled"], ["--problem", "manifest-unread"]], ids=" ".join)
def test_a_manifest_that_ends_every_process_while_it_is_read_is_given_up(
    lone: Corner, die: Die, how: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no record of it to count in, and no answer: an operator is told, daily, and has it read again."""
    path = lone.drop("a.csv", tuples(2))
    lone.services(timedelta(minutes=10)).sweep.run()
    (found,) = lone.queued()
    for _ in range(5):
        assert die(lone, found, 3, "intake.resume") == -signal.SIGKILL
    assert not list(lone.intake.ledger.states())

    for minutes in (20, 30, 60 * 25):
        sweep(lone, timedelta(minutes=minutes))
    assert [a["data"]["problem"] for a in lone.alerts] == ["manifest-unread"] * 2
    assert not lone.calls
    assert not lone.report_files(path)

    manifest_id = lone.alerts[0]["data"]["about"]
    assert main(["find", "a.csv"], lone.environment) == 0
    assert f"Try: resume {manifest_id}" in capsys.readouterr().out
    assert main(["resume", *([manifest_id.upper()] if how == ["its id"] else how)], lone.environment) == 0
    sweep(lone, timedelta(minutes=1))
    assert len(lone.results) == 1
    assert lone.alerts[-1]["type"].endswith("resolved")
    assert not list(lone.intake.ledger.unread(""))


def test_what_was_given_up_and_came_all_the_same_is_no_problem_any_more(lone: Corner) -> None:
    """Its event was late: the alert is taken back, which no tool could do."""
    path = lone.drop("a.csv", tuples(2))
    for _ in range(5):
        lone.intake.ledger.count_reading(lone.key(path), path)
    sweep(lone, timedelta(minutes=10))
    assert [a["data"]["problem"] for a in lone.alerts] == ["manifest-unread"]

    lone.intake.receive(path)
    assert len(lone.results) == 1
    sweep(lone, timedelta(minutes=20))
    assert lone.alerts[-1]["type"].endswith("resolved")
    assert not lone.intake.alerts.open()


def test_what_is_not_read_for_an_operator_s_fault_is_not_counted(lone: Corner) -> None:
    """However many sweeps find it, the manifest is read when the list of customers is there."""
    lone.settings["CUSTOMERS"] = "settings/customers.json"
    lone.drop("a.csv", tuples(2))
    for n in range(1, 8):
        assert len(sweep(lone, timedelta(minutes=10 * n))) == 1
    assert [a["data"]["problem"] for a in lone.alerts] == ["customers-unreadable"]

    del lone.settings["CUSTOMERS"]
    sweep(lone, timedelta(minutes=80))
    assert len(lone.results) == 1
    assert [a["type"].rpartition(".")[2] for a in lone.alerts] == ["action-needed", "resolved"]


def found_by_a_sweep(corner: Corner) -> tuple[Services, str]:
    """Services, and the wake-up of a manifest that raised no event."""
    corner.drop("a.csv", tuples(2))
    services = corner.services(timedelta(minutes=10))
    services.sweep.run()
    (found,) = corner.queued()
    return services, found


def test_an_outage_while_it_is_read_is_not_counted(lone: Corner) -> None:
    """Storage throttles by the names of blobs: the ledger is there, and the manifest is not. Nobody need do a thing."""
    with gated(lone.cloud) as one:
        services, found = found_by_a_sweep(one.corner)
        # One of the 5xx that the client does not repeat for a quarter of a minute first.
        one.blobs.faults.add(respond(501, on="GET */manifests/*", times=None))
        for _ in range(6):
            with pytest.raises(AzureError):
                services.intake.resume(found)
        one.blobs.faults.clear()
        sweep(one.corner, timedelta(minutes=20))
        assert len(one.corner.results) == 1
        assert not one.corner.alerts


def test_what_storage_never_shows_is_given_up(lone: Corner) -> None:
    """It lies in the archive: no outage, and it does not pass."""
    with gated(lone.cloud) as one:
        services, found = found_by_a_sweep(one.corner)
        one.blobs.faults.add(respond(409, on="GET */manifests/*", times=None))
        for _ in range(5):
            with pytest.raises(AzureError):
                services.intake.resume(found)
        services.intake.resume(found)
        assert [a["data"]["problem"] for a in one.corner.alerts] == ["manifest-unread"]


def test_an_answer_that_cannot_be_read_is_no_outage() -> None:
    """Else a manifest that can never be read would be tried for ever, and nobody told."""
    assert is_outage(ServiceRequestError("no answer"))
    assert not is_outage(HttpResponseError("cannot be unpacked"))


def test_a_path_that_leads_elsewhere_is_answered_once(lone: Corner) -> None:
    """Storage keeps such a name where it is sent by hand; no sweep finds it a second time."""
    lone.drop("a.part", b"")
    put_as_it_is(lone, f"{lone.folder}/../contoso/b.csv")
    put_as_it_is(lone, f"{lone.folder}/./c.csv")

    assert len(sweep(lone, timedelta(minutes=10))) == 2
    assert not sweep(lone, timedelta(hours=9))
    assert [e["data"]["reason"] for e in lone.rejections] == ["unknown-customer"] * 2


def test_a_folder_of_an_account_with_sftp_is_no_manifest_and_no_problem(lone: Corner) -> None:
    """Its namespace is hierarchical, and folders are listed as empty blobs: nobody is answered for one. Files are."""
    lone.drop("a.csv", tuples(2), {"hdi_isfolder": "true"})
    intake = lone.at(timedelta(hours=2))
    for container, name in (
        ("manifests", lone.folder),
        ("manifests", f"{lone.folder}/in"),
        ("intake-ledger", "problems/partner-center-forbidden"),
    ):
        lone.cloud.blob_service().get_blob_client(container, name).upload_blob(b"", metadata={"hdi_isfolder": "true"})
    intake.receive(f"{lone.folder}/in")

    assert len(sweep(lone, timedelta(hours=2))) == 1
    assert len(lone.results) == 1
    assert not lone.rejections
    assert not sweep(lone, timedelta(hours=3))


@pytest.mark.parametrize(
    ("name", "metadata"),
    [
        ("uploads/readme.txt", {}),
        (f"uploads/{'ab' * 32}", {"until": "soon"}),
        (f"uploads/{'ab' * 32}", {"starts": "many"}),
        ("problems/readme.txt", {}),
    ],
)
def test_one_bad_blob_in_the_ledger_stops_no_sweep(lone: Corner, name: str, metadata: dict[str, str]) -> None:
    """Somebody's note, or a state that cannot be read: all others go on."""
    lone.drop("a.csv", tuples(2))
    assert lone.intake
    lone.cloud.blob_service().get_blob_client("intake-ledger", name).upload_blob(b"x", metadata=metadata)
    sweep(lone, timedelta(hours=2))
    assert len(lone.results) == 1


def test_where_manifests_cannot_be_listed_operators_are_told(lone: Corner) -> None:
    """The role is missing on that container alone: what was planned goes on all the same."""
    with gated(lone.cloud) as one:
        fail = respond(429, headers={"Retry-After": "60"}, on=f"GET */{one.corner.customer}/*")
        lone.cloud.partner_center.faults.add(fail)
        one.corner.deliver("a.csv", tuples(2))
        one.blobs.faults.add(respond(403, on="GET */manifests", times=None))
        sweep(one.corner, timedelta(minutes=10))
        sweep(one.corner, timedelta(minutes=20))
        assert [a["data"]["problem"] for a in one.corner.alerts] == ["manifests-unreadable"]
        assert len(one.corner.results) == 1

        one.blobs.faults.clear()
        sweep(one.corner, timedelta(minutes=30))
        assert one.corner.alerts[-1]["type"].endswith("resolved")


def test_a_container_that_is_not_there_is_told(lone: Corner) -> None:
    """Its name is misspelt, say: each event would find its blob gone, and no sweep any."""
    path = lone.drop("a.csv", tuples(2))
    with_typo = Corner(lone.cloud, lone.customer, {"MANIFEST_CONTAINER": "manifest"})
    with_typo.intake.receive(path)
    sweep(with_typo, timedelta(minutes=10))
    ((kind, problem),) = [(a["type"].rsplit(".", 1)[1], a["data"]["problem"]) for a in lone.alerts]
    assert (kind, problem) == ("action-needed", "manifests-unreadable")

    sweep(lone, timedelta(minutes=20))
    assert lone.alerts[-1]["type"].endswith("resolved")
    assert len(lone.results) == 1


class Full(Gateway):
    """Storage that lists so many finished manifests, 5,000 a page, as the real one does."""

    finished = 0

    def carry_out(self, request: ReceivedRequest) -> Reply:
        start, prefix = int(request.query.get("marker", 0)), request.query.get("prefix")
        if request.query.get("comp") != "list" or prefix not in (None, "uploads/"):
            return super().carry_out(request)
        end = min(start + 5_000, self.finished)
        blobs = "".join(self._upload(n) if prefix else self._manifest(n) for n in range(start, end))
        more = end if end < self.finished else ""
        rest = f"<Prefix>{prefix or ''}</Prefix><NextMarker>{more}</NextMarker>"
        text = f"<EnumerationResults>{rest}<Blobs>{blobs}</Blobs></EnumerationResults>"
        return Reply(200, text.encode(), {"Content-Type": "application/xml"})

    def _manifest(self, n: int) -> str:
        return self._blob(f"contoso/{n}.csv", "")

    def _upload(self, n: int) -> str:
        key = sha256(f"manifests/contoso/{n}.csv\n0x1".encode()).hexdigest()
        return self._blob(f"uploads/{key}", "<Metadata><done>1</done></Metadata>")

    def _blob(self, name: str, more: str) -> str:
        moment = "Sun, 22 Nov 2026 10:00:00 GMT"
        dates = f"<Creation-Time>{moment}</Creation-Time><Last-Modified>{moment}</Last-Modified>"
        kind = "<Etag>0x1</Etag><Content-Length>9</Content-Length><BlobType>BlockBlob</BlobType>"
        return f"<Blob><Name>{name}</Name><Properties>{dates}{kind}</Properties>{more}</Blob>"


def test_a_sweep_stays_cheap(lone: Corner) -> None:
    """Ten thousand finished manifests are two pages of records and two of blobs, and nothing is queued."""
    certificates, azurite = lone.cloud.certificates, lone.cloud.azurite
    with Full(certificates, azurite.blob_url) as blobs, Gateway(certificates, azurite.queue_url) as queues:
        uris = {"ManifestStorage__blobServiceUri": blobs.url, "ManifestStorage__queueServiceUri": queues.url}
        swept = Corner(lone.cloud, settings=uris).services().sweep
        queues.requests.clear()
        calls = []
        for blobs.finished in (10, 10_000):
            blobs.requests.clear()
            swept.run()
            calls.append(len(blobs.requests))

    assert calls[1] - calls[0] == 2
    assert calls[0] < 7
    assert not queues.requests


def put_as_it_is(corner: Corner, name: str) -> None:
    """Upload without a client that would normalize the name."""
    azurite = corner.cloud.azurite
    end = datetime.now(UTC) + timedelta(hours=1)
    sas = generate_container_sas(ACCOUNT, "manifests", KEY, permission="cw", expiry=end)
    address = httpx.URL(azurite.blob_url)
    trusted = ssl.create_default_context(cafile=str(corner.cloud.certificates.ca))
    with closing(HTTPSConnection(address.host, address.port, context=trusted)) as connection:
        headers = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2024-08-04"}
        connection.request("PUT", f"{address.path}/manifests/{name}?{sas}", b"x", headers)
        assert connection.getresponse().status == 201
