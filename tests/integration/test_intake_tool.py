"""The operator's tool: what is where and why, in each state, and set going again to its end."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError

from local.cloud import LocalCloud
from local.simulators.faults import Fault, respond
from tests.conftest import new_cloud
from tests.integration.conftest import Corner, Die, gated
from tests.integration.test_intake import HEADER, serials, tuples
from tools.intake.__main__ import main

GONE_BAD = "SN-BAD,,,,,\n"


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """A ledger of its own: the tool sees all that lies in it."""
    with new_cloud() as cloud:
        yield cloud


@pytest.fixture(autouse=True)
def nothing_queued(cloud: LocalCloud) -> None:
    with suppress(ResourceNotFoundError):
        cloud.queue_service().get_queue_client("intake-retries").clear_messages()


class Tool:
    """What a command exits with and says."""

    def __init__(self, corner: Corner, capsys: pytest.CaptureFixture[str]) -> None:
        self._corner = corner
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        self._capsys.readouterr()
        assert main(arguments, self._corner.environment) == code
        said = self._capsys.readouterr()
        return said.out + said.err

    def show(self, manifest_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self("show", manifest_id, "--json"))
        return shown


@pytest.fixture
def tool(corner: Corner, capsys: pytest.CaptureFixture[str]) -> Tool:
    return Tool(corner, capsys)


def carried_out(corner: Corner) -> int:
    """How many wake-ups were due, and carried out."""
    return len(corner.carry_out(corner.intake))


def id_of(corner: Corner, path: str) -> str:
    return str(corner.report(path)["manifest"]["id"])


def outage(corner: Corner, times: int = 3) -> Fault:
    return respond(503, "", on=f"* /v1/customers/{corner.customer}/*", times=times)


def change(corner: Corner, path: str, **metadata: str) -> None:
    """Change a record's state by hand."""
    container = corner.cloud.blob_service().get_container_client("intake-ledger")
    (name,) = container.list_blob_names(name_starts_with=f"uploads/{id_of(corner, path)}")
    blob = container.get_blob_client(name)
    blob.set_blob_metadata(blob.get_blob_properties().metadata | metadata)


def stall(corner: Corner, path: str) -> None:
    """Seven days of an outage, and the invocation that finds them over."""
    change(corner, path, since="2020-01-01T00:00:00+00:00")
    corner.cloud.partner_center.faults.add(outage(corner))
    assert corner.wake() == 1


def test_what_was_told_is_said_in_one_sentence(corner: Corner, tool: Tool) -> None:
    """480 devices, of which three rows were bad: how many went, which did not, and where they are now."""
    lines = tuples(480).decode().splitlines(keepends=True)
    for row in (7, 91, 302):
        lines[row - 1] = GONE_BAD
    path = corner.deliver("May.csv", "".join(lines).encode())
    page = tool("show", id_of(corner, path))

    assert "477 sent, 3 refused: rows 7, 91, 302." in page
    assert f"done since {datetime.now(UTC):%Y-%m-%d}" in page
    assert f"477 devices to Standard, rows 2–6, 8–90, 92–301, 303–481: submitted {corner.posts[0].location}" in page
    assert "unidentified-device 3" in page
    assert f"{path}." in page
    assert tool("show", path) == tool("show", f"manifests/{path}") == page
    assert tool("show", f" {id_of(corner, path).upper()} ") == page


def test_a_device_is_found_by_serial_number_and_product_key(corner: Corner, tool: Tool) -> None:
    """“Where is this device?”, also where its row was refused."""
    rows = f"{corner.customer[:8]}-A,00329-00000-0003-AA606,,Make,Model,\n{corner.customer[:8]}-B,,,,,\n"
    path = corner.deliver("a.csv", (HEADER + rows * 1 + tuples(8).decode().split("\n", 1)[1]).encode())

    found = tool("find", f"{corner.customer[:8]}-a")
    assert id_of(corner, path) in found
    assert "row 2," in found
    assert "accepted" in found
    assert "row 3," in tool("find", f"{corner.customer[:8]}-B")
    assert "rejected" in tool("find", f"{corner.customer[:8]}-B")
    assert path in tool("find", "00329-00000-0003-aa606")


def test_files_are_found_by_path_id_and_customer(corner: Corner, tool: Tool) -> None:
    """As well as one that nothing was planned of yet."""
    first, second = corner.deliver("May.csv", tuples(1)), corner.deliver("June.csv", tuples(2))
    dropped = corner.drop("May later.csv", tuples(3))

    by_customer = tool("find", corner.customer.upper())
    assert all(p in by_customer for p in (first, second, dropped))
    assert second not in tool("find", f"{corner.folder}/may")
    assert first in tool("find", id_of(corner, first)[:8])
    assert first in tool("find", id_of(corner, first).upper())
    assert "not read yet" in tool("find", "may later")
    assert "Nothing has “elsewhere.csv”" in tool("find", "elsewhere.csv", code=1)


def test_a_list_is_newest_first_and_of_what_was_asked_for(corner: Corner, tool: Tool) -> None:
    """By customer, state and time; a line a record."""
    corner.cloud.partner_center.faults.add(outage(corner))
    waiting = corner.deliver("waits.csv", tuples(1))
    done = corner.deliver("done.csv", tuples(2))

    def ids(*options: str) -> list[str]:
        lines = tool("list", "--json", "--customer", corner.folder, *options).splitlines()
        return [json.loads(line)["id"] for line in lines]

    assert set(ids()) == {id_of(corner, waiting), id_of(corner, done)}
    assert ids("--state", "waiting") == [id_of(corner, waiting)]
    assert ids("--state", "done", "--since", "1h") == [id_of(corner, done)]
    assert set(ids("--state", "done", "--state", "waiting", "--since", "2020-01-01")) == set(ids())
    assert not ids("--since", "2999-01-01")
    assert len(ids("--limit", "1")) == 1
    line = tool("list", "--customer", corner.customer, "--state", "waiting")
    assert f"{id_of(corner, waiting)}  waiting " in line
    assert "0 of 1 sent; tried again at " in line


def test_what_backs_off_is_resumed_at_once(corner: Corner, tool: Tool) -> None:
    """It says when it would be tried; the wake-up that was to come is then a stale one."""
    corner.cloud.partner_center.faults.add(outage(corner))
    path = corner.deliver("a.csv", tuples(2))
    (old,) = corner.wake_ups()
    seen = tool.show(path)
    assert (seen["state"], seen["sent"], seen["waits"]) == ("waiting", 0, 1)
    assert datetime.fromisoformat(seen["due"]) > datetime.now(UTC)
    assert "not sent, or without an answer yet" in tool("show", path)

    assert "goes on now" in tool("resume", seen["id"])
    assert tool.show(path)["state"] == "due"
    corner.intake.resume(old)
    assert not corner.batches
    assert carried_out(corner) == 1
    assert tool.show(path)["sentence"] == "2 sent."
    assert len(corner.results) == 1


def test_what_waits_for_an_operator_names_its_problem(corner: Corner, tool: Tool) -> None:
    """With the advice that he was given; set going, it takes the alert back and wakes all who wait for the same."""
    refused = respond(403, {"code": "2032", "description": "no"}, on=f"POST */{corner.customer}/*", times=2)
    corner.cloud.partner_center.faults.add(refused)
    paths = [corner.deliver(f"{n}.csv", tuples(1, start=n)) for n in range(2)]
    problem = f"partner-center-forbidden/{corner.customer}"
    seen = tool.show(paths[0])
    assert (seen["state"], seen["problem"]) == ("waiting-for-operator", problem)
    assert seen["advice"] == corner.alerts[0]["data"]["advice"]
    assert seen["advice"] in tool("show", paths[0])
    assert f"waits until {problem} is over" in seen["sentence"]

    assert tool("resume", "--problem", "partner-center-forbidden").count("goes on now") == 2
    assert carried_out(corner) >= 2
    assert {tool.show(p)["state"] for p in paths} == {"done"}
    assert [e["type"].rsplit(".", 1)[1] for e in corner.alerts] == ["action-needed", "resolved"]
    assert "Nothing waits" in tool("resume", "--problem", "partner-center-forbidden", code=1)


@pytest.mark.parametrize("how", [["--all-stalled"], ["--problem", "manifest-stalled"], []])
def test_what_is_stalled_goes_on_when_it_is_resumed(corner: Corner, tool: Tool, how: list[str]) -> None:
    """And as if it had never waited: an outage in its way stalls it no sooner than any other."""
    corner.cloud.partner_center.faults.add(outage(corner))
    path = corner.deliver("a.csv", tuples(2))
    stall(corner, path)
    seen = tool.show(path)
    assert seen["state"] == "stalled"
    assert f"resume {seen['id']}" in seen["sentence"]
    assert f"python -m tools.intake resume {seen['id']}" in seen["advice"]

    corner.cloud.partner_center.faults.add(outage(corner))
    assert "goes on now" in tool("resume", *(how or [seen["id"]]))
    carried_out(corner)
    assert tool.show(path)["state"] == "waiting"
    tool("resume", seen["id"])
    carried_out(corner)
    assert tool.show(path)["state"] == "done"
    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001"]
    assert corner.alerts[-1]["type"].endswith("resolved")


def test_a_manifest_that_stopped_every_start_is_resumed_with_five_new_ones(
    corner: Corner, tool: Tool, die: Die
) -> None:
    """Its cause was mended meanwhile."""
    path = corner.drop("a.csv", tuples(2))
    die(corner, path, 8)
    change(corner, path, starts="5", until="2020-01-01T00:00:00+00:00")
    corner.intake.receive(path)
    assert tool.show(path)["state"] == "stalled"

    tool("resume", path)
    carried_out(corner)
    assert tool.show(path)["sentence"] == "2 sent."


def test_a_holder_is_left_in_peace(corner: Corner, tool: Tool, die: Die) -> None:
    """The tool takes nothing from an invocation that may be under way, and says so; after its term it does."""
    path = corner.drop("a.csv", tuples(2))
    die(corner, path, 8)
    before = corner.wake_ups()
    assert tool.show(path)["state"] == "held"
    assert "is being worked on" in tool("resume", path)
    assert corner.wake_ups() == before
    assert carried_out(corner) == 0

    change(corner, path, until=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    assert "goes on now" in tool("resume", path)
    assert carried_out(corner) == 1
    assert tool.show(path)["state"] == "done"


def test_resume_and_a_delivery_at_once_leave_one_holder(corner: Corner) -> None:
    """Whoever took hold while the tool was looking keeps it; whom the tool was quicker than does nothing."""
    corner.cloud.partner_center.faults.add(outage(corner))
    path = corner.deliver("a.csv", tuples(1))
    ledger = corner.intake.ledger
    (wake_up,) = corner.wake_ups()
    key, nonce = json.loads(wake_up).values()
    claim = ledger.resume(key, nonce)
    assert claim is not None
    assert ledger.set_going(key) is None

    claim.release()
    assert ledger.set_going(key) is not None
    assert id_of(corner, path) == key[:12]
    assert ledger.resume(key, nonce) is None


def test_a_rejection_says_why(corner: Corner, tool: Tool) -> None:
    """Nothing can be set going of it, and its message can be said again."""
    path = corner.deliver("a.csv", b"no,manifest\n1,2\n")
    seen = tool.show(path)
    assert seen["verdict"] == "rejected"
    assert seen["sentence"].startswith(f"Nothing sent, rejected as {corner.rejections[0]['data']['reason']}: ")
    assert "has ended already" in tool("resume", path)
    assert "must correct it" in tool("resubmit", path, "--yes", code=2)

    tool("replay", path)
    first, second = corner.texts("REJECTION_QUEUE")
    assert first == second


def test_a_refused_request_is_told_with_its_rows(corner: Corner, tool: Tool) -> None:
    """Partner Center took two of three requests."""
    corner.cloud.partner_center.add_batch(corner.customer, "Standard")
    corner.cloud.partner_center.faults.add(
        respond(400, {"code": "800002", "description": "Bad device"}, on=f"POST */{corner.customer}/*")
    )
    path = corner.deliver("a.csv", tuples(1200))
    seen = tool.show(path)

    assert seen["sentence"] == "700 of 1,200 sent, 500 refused: rows 2–501."
    assert [r["result"] for r in seen["requests"]] == ["refused", "submitted", "submitted"]
    assert "800002" in seen["requests"][0]["detail"]


def test_a_duplicate_names_the_first(corner: Corner, tool: Tool) -> None:
    """And is sent all the same where an operator says so."""
    first, path = corner.deliver("a.csv", tuples(2)), corner.deliver("b.csv", tuples(2))
    assert tool.show(path)["sentence"] == f"Nothing sent again, the content was sent before as {id_of(corner, first)}."

    assert tool("resubmit", path, "--yes").endswith("2 devices in 1 requests.\n")
    carried_out(corner)
    assert len(corner.posts) == 2
    assert corner.results[-1]["type"].endswith("upload.submitted")


def test_a_duplicate_of_what_is_under_way_waits_for_its_end(corner: Corner, tool: Tool) -> None:
    """It says so, and whose."""
    corner.cloud.partner_center.faults.add(outage(corner))
    first, path = corner.deliver("a.csv", tuples(2)), corner.deliver("b.csv", tuples(2))
    seen = tool.show(path)

    assert seen["state"] == "waiting"
    assert f"under way as {id_of(corner, first)}" in seen["sentence"]


def test_a_dry_run_says_what_would_have_been(corner: Corner, tool: Tool) -> None:
    """It is not the tool that ends it."""
    customers = {corner.folder: {"customerId": corner.customer, "batchId": "Standard", "dryRun": True}}
    corner.settings["CUSTOMERS"] = json.dumps(customers)
    path = corner.deliver("a.csv", tuples(2))

    assert tool.show(path)["sentence"] == "Nothing sent, 2 would have been: a dry run."
    assert "End the customer's dryRun" in tool("resubmit", path, "--yes", code=2)
    assert "has no messages" in tool("replay", path, code=2)


def test_content_is_sent_again_only_when_it_is_meant(corner: Corner, tool: Tool) -> None:
    """As a record of its own with ids of its own, whatever became of the blob, and once for each time it is asked."""
    path = corner.deliver("a.csv", tuples(600))
    first = id_of(corner, path)
    corner.cloud.blob_service().get_blob_client("manifests", path).delete_blob()
    assert "500 devices to Standard, rows 2–501" in tool("resubmit", first, code=2)
    assert carried_out(corner) == 0

    again = json.loads(tool("resubmit", first, "--yes", "--json"))["as_"]
    assert f"is being sent again already, as {again}" in tool("resubmit", first, "--yes", code=2)
    assert carried_out(corner) == 1
    seen = tool.show(again)
    assert seen["sentence"] == "600 sent."
    assert "sent again by an operator (1)" in tool("show", again)
    assert len({p.headers["MS-RequestId"] for p in corner.posts}) == len(corner.posts)
    assert serials(corner.batches["Standard"]) == [f"SN-{n:05d}" for n in range(600)] * 2
    assert len({e["id"] for e in corner.results}) == 4
    assert corner.report(path)["manifest"]["id"] == again
    assert {e["data"]["manifest"]["etag"] for e in corner.results} == {corner.results[0]["data"]["manifest"]["etag"]}

    third = json.loads(tool("resubmit", first, "--yes", "--json"))["as_"]
    assert third not in (first, again)


def test_what_is_under_way_is_not_sent_again(corner: Corner, tool: Tool) -> None:
    """It would be sent twice."""
    corner.cloud.partner_center.faults.add(outage(corner))
    path = corner.deliver("a.csv", tuples(2))

    assert f"Try: resume {id_of(corner, path)}" in tool("resubmit", path, "--yes", code=2)
    assert "has no messages" in tool("replay", path, code=2)


def test_a_resubmission_whose_wake_up_was_lost_is_found_by_the_sweep(corner: Corner, tool: Tool) -> None:
    """The tool died between its two writes."""
    path = corner.deliver("a.csv", tuples(1))
    again = json.loads(tool("resubmit", path, "--yes", "--json"))["as_"]
    corner.cloud.queue_service().get_queue_client("intake-retries").clear_messages()
    left = {key[:12] for key, state in corner.intake.ledger.states() if state.is_left_alone(datetime.now(UTC))}

    assert again in left


def test_messages_are_said_again_byte_for_byte(corner: Corner, tool: Tool) -> None:
    """A consumer lost them; they go where they went, and nothing is posted."""
    path = corner.deliver("a.csv", tuples(1200))
    before, posts = corner.texts("RESULT_QUEUE"), len(corner.posts)
    assert "3 messages (submitted)" in tool("replay", path)

    assert corner.texts("RESULT_QUEUE") == before * 2
    assert len(corner.posts) == posts


def test_only_the_settings_of_storage_are_needed(corner: Corner, tmp_path: Path, tool: Tool) -> None:
    """From a local.settings.json as well; what else is wrong in it does not stop the operator who mends it."""
    path = corner.deliver("Łódź.csv", tuples(1))
    file = tmp_path / "local.settings.json"
    values = {"ManifestStorage": corner.cloud.azurite.connection_string, "KEY_VAULT_URL": "@Microsoft.KeyVault(x)"}
    file.write_text(json.dumps({"IsEncrypted": False, "Values": values}))
    ended = subprocess.run(
        [sys.executable, "-m", "tools.intake", "show", path, "--settings", file],
        # A pipe on Windows, which has few letters.
        env={**corner.cloud.certificates.environment(), "PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        encoding="cp1252",
        check=False,
        timeout=60,
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "1 sent." in ended.stdout


@pytest.mark.parametrize(
    ("settings", "arguments", "said"),
    [
        ({"ManifestStorage__blobServiceUri": ""}, ["list"], "ManifestStorage is missing"),
        ({"ManifestStorage": "AccountKey=c2VjcmV0"}, ["list"], "must be a connection string"),
        ({}, ["list", "--settings", "nowhere.json"], "nowhere.json cannot be read"),
        ({}, ["list", "--settings", "pyproject.toml"], "pyproject.toml cannot be read"),
    ],
)
def test_what_cannot_run_says_why(
    corner: Corner, tool: Tool, settings: dict[str, str], arguments: list[str], said: str
) -> None:
    """With code 2, and no secret in it."""
    corner.settings |= settings
    answer = tool(*arguments, code=2)

    assert said in answer
    assert "c2VjcmV0" not in answer


def test_an_account_that_the_app_never_ran_on_is_told_apart(lone: Corner, capsys: pytest.CaptureFixture[str]) -> None:
    """It is the wrong one, or the app is not deployed; nothing is created by looking."""
    assert main(["list"], lone.environment) == 2
    assert "Is this the right account?" in capsys.readouterr().err
    assert [c.name for c in lone.cloud.blob_service().list_containers()] == ["manifests"]


def test_an_account_that_refuses_is_told_apart(cloud: LocalCloud, capsys: pytest.CaptureFixture[str]) -> None:
    """Its firewall, say; nobody is sent to look for another account."""
    with gated(cloud) as there:
        there.blobs.faults.add(respond(403))
        assert main(["list"], there.corner.environment) == 2
    assert "The storage account did not do it with HTTP 403" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["resume", ""], ["resume", "--problem", " "]])
def test_nothing_is_not_everything(corner: Corner, tool: Tool, arguments: list[str]) -> None:
    """A variable that is not set must not set going whatever backs off."""
    corner.cloud.partner_center.faults.add(outage(corner))
    path = corner.deliver("a.csv", tuples(2))
    with pytest.raises(SystemExit, match="2"):
        tool(*arguments)
    assert tool.show(path)["state"] == "waiting"


@pytest.mark.parametrize("arguments", [["show", "0000"], ["show", "contoso/no.csv"], ["resume", "ffffffffffff"]])
def test_what_is_not_there_is_told_from_what_cannot_run(corner: Corner, tool: Tool, arguments: list[str]) -> None:
    """With code 1."""
    corner.deliver("a.csv", tuples(1))
    assert "No record has" in tool(*arguments, code=1)
    assert "No record has" in tool("resume", "contoso/../x", code=1)


def test_no_hash_and_nothing_for_a_terminal_to_obey_is_printed(corner: Corner, tool: Tool, samples: Path) -> None:
    """Suppliers choose the names of files, and what stands in them."""
    text = (samples / "collector_utf16le.csv").read_text("utf-16")
    path = corner.deliver("\x9b31m\u202e a.csv", text.encode())
    hashes = [line.split(",")[2] for line in text.splitlines()[1:] if line]
    serial = text.splitlines()[1].split(",")[0]
    said = tool("show", id_of(corner, path)) + tool("list") + tool("find", serial) + tool("list", "--json")

    assert "31m" in said
    assert not {"\x9b", "\u202e"} & set(said)
    assert not [h for h in hashes if h[:60] in said]
