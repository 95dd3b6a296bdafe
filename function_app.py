"""The triggers and nothing else. Names are fixed: an Event Grid subscription names the first, and a rename would
silently drop its events.

What the decorators need is read here with a default, which cannot raise: an exception at import makes every function
disappear. All other settings are read on first use.
"""

import os

import azure.functions as func
import azurefunctions.extensions.bindings.blob as blob

from shared import wiring

app = func.FunctionApp()

# An app setting that was left empty means the same as one that is not there.
CONTAINER = "%MANIFEST_CONTAINER%" if os.environ.get("MANIFEST_CONTAINER") else "manifests"


@app.function_name("receive_manifest")
@app.blob_trigger(
    arg_name="manifest",
    path=f"{CONTAINER}/{{name}}",
    connection="ManifestStorage",
    # As text: func.BlobSource would raise for an unknown one, where the host says what is wrong.
    source=os.environ.get("BLOB_TRIGGER_SOURCE") or "EventGrid",  # type: ignore[arg-type]
)
def receive_manifest(manifest: blob.BlobClient) -> None:
    wiring.services().intake.receive(manifest.blob_name)


@app.function_name("resume_manifest")
@app.queue_trigger(arg_name="message", queue_name="intake-retries", connection="ManifestStorage")
def resume_manifest(message: func.QueueMessage) -> None:
    wiring.services().intake.resume(message.get_body().decode())


@app.function_name("sweep_manifests")
@app.timer_trigger(arg_name="timer", schedule="0 */10 * * * *")
def sweep_manifests(timer: func.TimerRequest) -> None:
    wiring.services().sweep.run()


@app.function_name("keep_token_alive")
@app.timer_trigger(arg_name="timer", schedule="0 30 4 * * *")
def keep_token_alive(timer: func.TimerRequest) -> None:
    wiring.services().token_life.keep()
