"""`make demo`: three manifests go in, three tracking URIs come out; a fourth is rejected, and its supplier told why."""

from __future__ import annotations

import time

from rich.console import Console

from local import examples
from local.screen import only, print_message, print_report, screen
from local.stack import Event, Stack, StackError, Watch

MANIFESTS = {
    "fabrikam/collector.csv": examples.collector_csv(),
    "fabrikam/partner-center-template.csv": examples.partner_center_csv(),
    "contoso/request.json": examples.api_json(),
    "contoso/batch=Kiosk/refurbished.csv": examples.rejected_csv(),
}
_SECONDS = 90


def demo(console: Console) -> int:
    """Runs the main job; returns the exit code."""
    console.print("Starting the local cloud: storage, Entra, Key Vault, managed identity, Partner Center …")
    with Stack("demo") as stack:
        events = _run(stack, console)
    for event in only(events, "device-batch-results"):
        print_message(console, event)
    for event in only(events, "manifest-rejections"):
        print_message(console, event)
        report = [e for e in only(events, "report") if e.manifest == event.manifest][-1]
        print_report(console, report.data)
    console.print(f"\nDone: 3 manifests accepted, 1 rejected. The function app's log is {stack.log}")
    return 0


def _run(stack: Stack, console: Console) -> list[Event]:
    watch, events = Watch(stack.cloud), list[Event]()
    end = time.monotonic() + _SECONDS
    with screen(console) as view:
        for name, data in MANIFESTS.items():
            stack.cloud.drop(name, data)
            view.dropped(name, len(data))
        while not _is_complete(events):
            stack.check()
            if time.monotonic() > end:
                raise StackError(f"Not all manifests were answered within {_SECONDS} s. See {stack.log}")
            for event in watch.look():
                events.append(event)
                view.show(event)
            time.sleep(0.1)
    return events


def _is_complete(events: list[Event]) -> bool:
    submitted = {e.manifest for e in only(events, "report") if e.data["state"] == "submitted"}
    results, rejections = only(events, "device-batch-results"), only(events, "manifest-rejections")
    if len(results) > 3 or len(rejections) > 1 or only(events, "operator-alerts"):
        raise StackError(f"Unexpected messages: {[e.data['type'] for e in events if e.kind not in ('report', 'call')]}")
    return len(submitted) == len(results) == 3 and len(rejections) == 1
