"""Bytes in, devices and findings out. Pure: it knows of no network, no Azure and no Partner Center."""

from shared.manifest.destination import Customer, Customers, Destination, find_destination, is_addressable
from shared.manifest.device import Device
from shared.manifest.findings import Code, Finding, Refused, printable, without_hashes
from shared.manifest.reading import FINDINGS_KEPT, Manifest, Rules, Verdict, read_manifest
from shared.manifest.report import Answer, Decision, refusal_csv, report_csv, resend_csv

__all__ = [
    "FINDINGS_KEPT",
    "Answer",
    "Code",
    "Customer",
    "Customers",
    "Decision",
    "Destination",
    "Device",
    "Finding",
    "Manifest",
    "Refused",
    "Rules",
    "Verdict",
    "find_destination",
    "is_addressable",
    "printable",
    "read_manifest",
    "refusal_csv",
    "report_csv",
    "resend_csv",
    "without_hashes",
]
