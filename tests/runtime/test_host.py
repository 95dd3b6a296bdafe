"""The local Functions host does what the real one does, so that what passes here passes on Azure."""

import base64
import contextlib
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import QueueClient

from local.cloud import LocalCloud

from .conftest import APPS, Runtime, eventually

BLOB = '@app.blob_trigger(arg_name="b", path={path!r}, connection={connection!r}, source={source!r})'
HEAD = "import azure.functions as func\nimport typing\napp = func.FunctionApp()\n"


def blob_app(path: str = "manifests/{name}", connection: str = "ManifestStorage", source: str = "EventGrid") -> str:
    trigger = BLOB.format(path=path, connection=connection, source=source)
    return f"{HEAD}{trigger}\ndef f(b: func.InputStream) -> None: ...\n"


def timer_app(schedule: str, output: str = "", parameter: str = "") -> str:
    trigger = f"@app.timer_trigger(arg_name='t', schedule={schedule!r})"
    return f"{HEAD}{trigger}\n{output}\ndef f(t: func.TimerRequest{parameter}) -> None: ...\n"


def queue_output(annotation: str) -> str:
    output = "@app.queue_output(arg_name='o', queue_name='out', connection='ManifestStorage')"
    return timer_app("0 * * * * *", output, f", o: {annotation}")


BLOB_OUTPUT = "@app.blob_output(arg_name='o', path='a/b', connection='ManifestStorage')"
HTTP = f"{HEAD}@app.route('x')\ndef f(req: func.HttpRequest) -> str: return ''\n"
REFUSED = {
    "a setting in a path that is not set": (blob_app("%NO_SUCH%/{name}"), "NO_SUCH"),
    "a source nobody knows": (blob_app(source="EventHub"), "'EventHub' is neither"),
    "a connection that is not set": (blob_app(connection="Nowhere"), "Nowhere__queueServiceUri"),
    "a container with capitals": (blob_app("Manifests/{name}"), "'Manifests' is not a valid name"),
    "an output of list[str]": (queue_output("func.Out[list[str]]"), "invalid non-type annotation"),
    "an output that may be None": (queue_output("func.Out[str | None]"), "invalid"),
    "a blob output": (timer_app("0 * * * * *", BLOB_OUTPUT, ", o: func.Out[str]"), "only queue outputs"),
    "a parameter with a default": (timer_app("0 * * * * *", "", ", x: int = 1"), "declared in Python"),
    "an import that fails": ("import no_such_module\n", "no_such_module"),
    "two apps": (timer_app("0 * * * * *") + "other = func.FunctionApp()\n", "More than one"),
    "two functions of one name": (timer_app("0 * * * * *") + timer_app("0 * * * * *")[len(HEAD) :], "unique"),
    "no app": ("", "Could not find top level function app"),
    "no functions": (HEAD, "no functions"),
    "a trigger of another type": (HTTP, "'httpTrigger' is not supported"),
    "five fields of cron": (timer_app("* * * * *"), "six fields"),
    "a minute too many": (timer_app("0 60 * * * *"), "not within 0–59"),
}


@pytest.mark.parametrize(("source", "cause"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_what_azure_would_not_run(runtime: Runtime, tmp_path: Path, source: str, cause: str) -> None:
    (tmp_path / "function_app.py").write_text(source)
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    done = runtime.finish("--list", app=tmp_path)
    assert done.returncode == 1
    assert "No job functions found." in done.stderr
    assert cause in done.stderr


@pytest.mark.parametrize(
    "text", ["{", '{"version": "1.0"}', '{"version": "2.0", "extensions": {"queues": {"batchSize": 33}}}']
)
def test_refuses_a_host_json_that_azure_would_not_read(runtime: Runtime, tmp_path: Path, text: str) -> None:
    (tmp_path / "function_app.py").write_text(blob_app())
    (tmp_path / "host.json").write_text(text)
    done = runtime.finish("--list", app=tmp_path)
    assert done.returncode == 1
    assert "host.json" in done.stderr


def test_accepts_an_identity_instead_of_a_connection_string(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text(blob_app(connection="Other", source="eventgrid"))
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    uris = {"Other__blobServiceUri": "https://b.invalid", "Other__queueServiceUri": "https://q.invalid"}
    assert runtime.finish("--list", app=tmp_path, **uris).returncode == 0


def test_lists_functions_with_their_bindings(runtime: Runtime) -> None:
    done = runtime.finish("--list", app=APPS / "blobs")
    functions = [json.loads(line) for line in done.stdout.splitlines()]
    assert {f["name"]: f["trigger"] for f in functions} == {
        "by_reference": "blobTrigger",
        "by_content": "blobTrigger",
    }
    assert functions[0]["bindings"][0]["path"] == "%CONTAINER%/{name}"


def test_a_blob_is_one_event_for_each_of_its_versions(runtime: Runtime) -> None:
    runtime.start("blobs")
    runtime.container.create_container()
    runtime.container.upload_blob("contoso/März.csv", b"ok")
    first = eventually(runtime.calls)[0]
    assert first["name"] == "contoso/März.csv"
    assert Path(first["cwd"]) == APPS / "blobs"
    runtime.container.upload_blob("contoso/März.csv", b"ok", overwrite=True)
    eventually(lambda: len(runtime.calls()) == 2)
    time.sleep(0.5)
    assert [call["attempt"] for call in runtime.calls()] == [1, 2]


def test_a_pattern_filters_a_container_scan_and_the_content_is_bound(runtime: Runtime) -> None:
    runtime.container.create_container()
    runtime.container.upload_blob("in/a/b.csv", b"1,2", metadata={"batchid": "x"})
    runtime.container.upload_blob("out/b.csv", b"3")
    assert runtime.start("blobs", "--once").wait(90) == 0
    (call,) = [call for call in runtime.calls() if call["function"] == "by_content"]
    assert call["name"] == f"{runtime.name}/in/a/b.csv"
    assert call["uri"].endswith(call["name"])
    assert (call["length"], call["body"]) == (3, "1,2")
    assert len(runtime.calls()) == 3  # the other function takes both: in Event Grid mode no pattern filters


def test_a_failed_blob_is_tried_again_at_once(runtime: Runtime) -> None:
    runtime.container.create_container()
    runtime.container.upload_blob("a.csv", b"fail 2")
    assert runtime.start("blobs", "--once").wait(90) == 0
    assert [call["attempt"] for call in runtime.calls()] == [1, 2, 3]
    assert "(Succeeded" in runtime.log.read_text()
    assert "RuntimeError: attempt 2 of a.csv" in runtime.log.read_text()


def test_a_blob_that_fails_five_times_is_poison(runtime: Runtime) -> None:
    runtime.container.create_container()
    etag = runtime.container.upload_blob("a.csv", b"fail 9").get_blob_properties().etag
    assert runtime.start("blobs", "--once").wait(90) == 0
    assert [call["attempt"] for call in runtime.calls()] == [1, 2, 3, 4, 5]
    poison = runtime.cloud.queue_service().get_queue_client("webjobs-blobtrigger-poison")
    (message,) = [message for message in peek(poison) if message["ContainerName"] == runtime.name]
    assert message.pop("ETag").strip('"') == etag.strip('"')
    assert message == {
        "Type": "BlobTrigger",
        "FunctionId": "Host.Functions.by_reference",
        "BlobType": "BlockBlob",
        "ContainerName": runtime.name,
        "BlobName": "a.csv",
    }


def test_a_restart_delivers_every_blob_again(runtime: Runtime) -> None:
    runtime.container.create_container()
    runtime.container.upload_blob("a.csv", b"ok")
    for _ in range(2):
        assert runtime.start("blobs", "--once").wait(90) == 0
    assert len(runtime.calls()) == 2


def test_no_more_blobs_at_once_than_host_json_allows(runtime: Runtime) -> None:
    runtime.container.create_container()
    for n in range(3):
        runtime.container.upload_blob(f"{n}.csv", b"sleep 1")
    assert runtime.start("blobs", "--once").wait(90) == 0
    assert ["ended" in call for call in runtime.calls()][:3] == [False, False, True]


def test_the_process_ends_when_a_function_exceeds_its_time(runtime: Runtime) -> None:
    runtime.container.create_container()
    runtime.container.upload_blob("a.csv", b"sleep 20")
    assert runtime.start("blobs").wait(90) == 3
    assert "functionTimeout" in runtime.log.read_text()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_invocations_end(runtime: Runtime, sign: signal.Signals) -> None:
    runtime.container.create_container()
    host = runtime.start("blobs")
    runtime.container.upload_blob("a.csv", b"sleep 2")
    eventually(runtime.calls)
    host.send_signal(sign)
    assert host.wait(90) == 0
    assert runtime.calls()[-1]["ended"]


def test_a_message_is_deleted_and_its_output_written_after_success(runtime: Runtime) -> None:
    runtime.start("queues")
    queue = runtime.queue()
    queue.create_queue()
    queue.send_message(encode("good"), time_to_live=-1)
    assert eventually(lambda: texts(runtime.queue("-out"))) == ["answer to good"]
    eventually(lambda: queue.get_queue_properties().approximate_message_count == 0)
    (call,) = runtime.calls()
    assert (call["body"], call["dequeue_count"]) == ("good", 1)


def test_a_message_that_fails_comes_back_then_is_poison_and_writes_nothing(runtime: Runtime) -> None:
    runtime.start("queues")
    queue = runtime.queue()
    queue.create_queue()
    began = time.monotonic()
    queue.send_message(encode("bad"))
    assert eventually(lambda: texts(runtime.queue("-poison"))) == ["bad"]
    assert time.monotonic() - began > 2  # visibilityTimeout between the three attempts
    assert [call["dequeue_count"] for call in runtime.calls()] == [1, 2, 3]
    assert queue.get_queue_properties().approximate_message_count == 0
    assert texts(runtime.queue("-out")) == []


def test_a_message_that_is_not_base64_is_poison_at_once(runtime: Runtime) -> None:
    queue = runtime.queue()
    queue.create_queue()
    queue.send_message("{not base64}")
    assert runtime.start("queues", "--once").wait(90) == 0
    (message,) = runtime.queue("-poison").peek_messages()
    assert message.content == "{not base64}"
    assert runtime.calls() == []


def test_a_message_stays_hidden_while_its_function_runs(runtime: Runtime) -> None:
    queue = runtime.queue()
    queue.create_queue()
    queue.send_message(encode("sleep 16"))
    assert runtime.start("queues", "--once").wait(90) == 0
    assert [call["dequeue_count"] for call in runtime.calls()] == [1]
    assert queue.get_queue_properties().approximate_message_count == 0


def test_timers_run_at_start_and_on_their_schedule(runtime: Runtime) -> None:
    runtime.start("timers", TICK="*/1 * * * * *")
    eventually(lambda: [call["function"] for call in runtime.calls()].count("tick") >= 2)
    assert [call["function"] for call in runtime.calls()].count("at_start") == 1
    assert "INFO: tick.heard past_due=False" in runtime.log.read_text()


def test_one_pass_runs_no_timer_but_those_of_the_start(runtime: Runtime) -> None:
    assert runtime.start("timers", "--once", TICK="* * * * * *").wait(90) == 0
    assert [call["function"] for call in runtime.calls()] == ["at_start"]


def test_storage_is_reached_by_managed_identity(tmp_path: Path) -> None:
    with LocalCloud(oauth=True) as cloud, contextlib.closing(Runtime(cloud, tmp_path)) as runtime:
        assert "ManifestStorage" not in cloud.settings()
        runtime.container.create_container()
        runtime.container.upload_blob("a.csv", b"fail 9")
        assert runtime.start("blobs", "--once").wait(90) == 0
        assert len(runtime.calls()) == 5
        assert peek(cloud.queue_service().get_queue_client("webjobs-blobtrigger-poison"))


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def texts(queue: QueueClient) -> list[str]:
    try:
        messages = queue.peek_messages(max_messages=32)
    except ResourceNotFoundError:
        return []
    return [base64.b64decode(message.content).decode() for message in messages]


def peek(queue: QueueClient) -> list[dict[str, Any]]:
    return [json.loads(text) for text in texts(queue)]
