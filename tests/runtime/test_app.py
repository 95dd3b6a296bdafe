"""The function app itself, on Microsoft's worker."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.queue import TextBase64DecodePolicy, TextBase64EncodePolicy

from local.cloud import CONTOSO
from tests.runtime.conftest import ROOT, Runtime, eventually


@pytest.fixture
def queue() -> str:
    return f"results-{uuid4()}"


def functions(runtime: Runtime, **settings: str) -> dict[str, dict[str, Any]]:
    listed = runtime.finish("--list", app=ROOT, **settings)
    assert listed.returncode == 0, listed.stderr
    return {f["name"]: f for f in map(json.loads, listed.stdout.splitlines())}


def test_names_triggers_and_bindings_are_the_contract(runtime: Runtime) -> None:
    """An Event Grid subscription names the first function, and parked work waits on the second's queue."""
    found = functions(runtime)

    assert set(found) == {"receive_manifest", "resume_manifest", "sweep_manifests", "keep_token_alive"}
    (blob,) = found["receive_manifest"]["bindings"]
    assert (blob["type"], blob["path"]) == ("blobTrigger", "%MANIFEST_CONTAINER%/{name}")
    assert (blob["connection"], blob["source"]) == ("ManifestStorage", "EventGrid")
    assert blob["properties"] == {"SupportsDeferredBinding": True}
    (queue,) = found["resume_manifest"]["bindings"]
    assert (queue["type"], queue["queueName"]) == ("queueTrigger", "intake-retries")
    assert queue["connection"] == "ManifestStorage"
    for name, schedule in (("sweep_manifests", "0 */10 * * * *"), ("keep_token_alive", "0 30 4 * * *")):
        (timer,) = found[name]["bindings"]
        assert (timer["type"], timer["schedule"]) == ("timerTrigger", schedule)


@pytest.mark.parametrize("left", [{}, {"MANIFEST_CONTAINER": "", "BLOB_TRIGGER_SOURCE": ""}], ids=["out", "empty"])
def test_the_container_and_the_source_have_defaults(runtime: Runtime, left: dict[str, str]) -> None:
    """`%NAME%` without a setting would take every function away; the defaults need none."""
    settings = {k: v for k, v in runtime.settings.items() if k not in ("MANIFEST_CONTAINER", "BLOB_TRIGGER_SOURCE")}
    command = [sys.executable, "-m", "local.host", "--app", ROOT, "--list"]
    listed = subprocess.run(command, env=settings | left, capture_output=True, text=True, check=True, timeout=60)

    (blob,) = json.loads(listed.stdout.splitlines()[0])["bindings"]
    assert (blob["path"], blob["source"]) == ("manifests/{name}", "EventGrid")


def test_an_unknown_source_is_refused(runtime: Runtime) -> None:
    """It would be on Azure, with no better word than this."""
    refused = runtime.finish("--list", app=ROOT, BLOB_TRIGGER_SOURCE="EventGird")

    assert refused.returncode == 1
    assert "No job functions found" in refused.stderr


def test_a_missing_setting_fails_an_invocation_and_not_the_app(lone_runtime: Runtime, queue: str) -> None:
    """All functions are there; the one that runs names the setting, and operators are told once."""
    assert "receive_manifest" in functions(lone_runtime, KEY_VAULT_URL="")
    lone_runtime.container.create_container()
    lone_runtime.container.upload_blob("contoso/a.csv", b"x")
    ended = lone_runtime.finish("--once", app=ROOT, KEY_VAULT_URL="", ALERT_QUEUE=queue, **only(lone_runtime))

    assert "KEY_VAULT_URL is missing" in ended.stderr
    alerts = lone_runtime.cloud.queue_service().get_queue_client(queue, message_decode_policy=TextBase64DecodePolicy())
    (alert,) = alerts.peek_messages(max_messages=9)
    assert json.loads(alert.content)["data"]["problem"] == "settings-wrong"


def test_a_blob_becomes_a_message(lone_runtime: Runtime, queue: str) -> None:
    """Dropped, found by the host, run by the worker, posted, told: the whole way."""
    own = only(lone_runtime) | {"RESULT_QUEUE": queue, "CUSTOMERS": json.dumps({"contoso": CONTOSO})}
    lone_runtime.container.create_container()
    lone_runtime.container.upload_blob(
        "contoso/batch=März/a b%20c.json", b'[{"SerialNumber":"1","ProductKey":"00329-00000-0003-AA606"}]'
    )
    ended = lone_runtime.finish("--once", app=ROOT, **own)

    assert ended.returncode == 0, ended.stderr
    client = lone_runtime.cloud.queue_service().get_queue_client(queue, message_decode_policy=TextBase64DecodePolicy())
    (message,) = client.peek_messages()
    event = json.loads(message.content)
    assert event["data"]["manifest"]["name"] == "contoso/batch=März/a b%20c.json"
    assert event["source"].endswith(f"{lone_runtime.name}/contoso/batch%3DM%C3%A4rz/a%20b%2520c.json")
    assert event["data"]["batchId"] == "März"
    assert lone_runtime.cloud.partner_center.batches(CONTOSO)["März"]
    assert event["data"]["location"] in {p.location for p in lone_runtime.cloud.partner_center.posts()}


def test_the_same_blob_delivered_twenty_times_to_two_workers_is_sent_once(lone_runtime: Runtime, queue: str) -> None:
    """By a queue that both of them read, several messages at a time."""
    own = only(lone_runtime) | {"RESULT_QUEUE": queue, "CUSTOMERS": json.dumps({"contoso": CONTOSO})}
    lone_runtime.container.create_container()
    tag = str(uuid4())
    rows = "".join(f"{n},{n:013d},{tag}\n" for n in range(1, 4))
    lone_runtime.container.upload_blob("contoso/a.csv", f"Device Serial Number,Product ID,Group Tag\n{rows}".encode())
    retries = lone_runtime.cloud.queue_service().get_queue_client(
        "intake-retries", message_encode_policy=TextBase64EncodePolicy()
    )
    with suppress(ResourceExistsError):
        retries.create_queue()
    for _ in range(20):
        retries.send_message(json.dumps({"name": "contoso/a.csv"}))
    for _ in range(2):
        lone_runtime.start(str(ROOT), DEVICES_PER_REQUEST="1", **own)
    eventually(lambda: not retries.get_queue_properties().approximate_message_count)

    client = lone_runtime.cloud.queue_service().get_queue_client(queue, message_decode_policy=TextBase64DecodePolicy())
    told = [json.loads(m.content)["data"] for m in client.peek_messages(32)]
    assert sorted(t["part"] for t in told) == [1, 2, 3]
    posts = [p for p in lone_runtime.cloud.partner_center.posts() if tag.encode() in p.body or tag in p.path]
    assert sorted(t["location"] for t in told) == sorted(p.location for p in posts)


def only(runtime: Runtime) -> dict[str, str]:
    """Settings with which the app sees this test's blobs alone."""
    return {"MANIFEST_CONTAINER": runtime.name}


class Local:
    """`python -m local …` as a person starts it, in a process group of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.output = folder / "output"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local", *arguments],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith(("ManifestStorage", "IDENTITY_"))},
            stdout=self.output.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A shell that runs the tests in its background has them ignore Ctrl-C, and what they start, too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def says(self, *texts: str) -> Callable[[], bool]:
        return lambda: all(text in self.said for text in texts) or self.process.poll() is not None

    def group(self) -> list[str]:
        """Every process that it started and that still runs."""
        listed = subprocess.run(["ps", "-eo", "sess=,args="], capture_output=True, text=True, check=True).stdout
        mine = str(self.process.pid)
        return [line for line in listed.splitlines() if line.split()[0] == mine]


@pytest.fixture
def start(tmp_path: Path) -> Any:
    started: list[Local] = []

    def begin(*arguments: str) -> Local:
        started.append(Local(tmp_path, *arguments))
        return started[-1]

    yield begin
    for local in started:
        local.process.kill()
        local.process.wait()


def test_the_demo_shows_three_tracking_uris_and_a_rejection(start: Any) -> None:
    """What a newcomer runs first."""
    demo = start("demo")

    assert demo.process.wait(200) == 0, demo.said
    assert demo.said.count('"type": "io.autopilotdrop.upload.submitted"') == 3
    assert demo.said.count('"location": "/customers/') == 3
    assert "contoso/batch=Kiosk/refurbished.csv: rejected" in demo.said
    assert not demo.group()


def test_a_file_in_the_drop_folder_is_answered_until_ctrl_c(start: Any, tmp_path: Path) -> None:
    """`make run` uploads what is put there, shows what comes of it, and leaves nothing behind."""
    run = start("run", str(tmp_path / "drop"))
    eventually(run.says("Put manifests into"))
    (tmp_path / "drop" / "fabrikam" / "a.json").write_text('[{"ProductKey": "00329-00000-0003-AA606"}]')
    eventually(run.says("upload.submitted", "report submitted"))
    assert run.process.poll() is None, run.said
    run.process.send_signal(signal.SIGINT)

    assert run.process.wait(90) == 0, run.said
    assert not run.group()


def test_run_shows_what_operators_are_told(start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tries a setting that cannot be reads so, and the stack stays up."""
    monkeypatch.setenv("HASH_CHECK", "maybe")
    run = start("run", str(tmp_path / "drop"))
    eventually(run.says("Put manifests into"))
    (tmp_path / "drop" / "fabrikam" / "a.json").write_text('[{"ProductKey": "00329-00000-0003-AA606"}]')
    eventually(run.says("action-needed settings-wrong", "HASH_CHECK"))
    assert run.process.poll() is None, run.said


def test_nothing_stays_behind_a_killed_run(start: Any, tmp_path: Path) -> None:
    """Storage and the function app end with whoever started them, however that one ends."""
    run = start("run", str(tmp_path / "drop"))
    eventually(run.says("Put manifests into"))
    run.process.kill()
    run.process.wait()

    eventually(lambda: not run.group())
