"""Bytes in, devices and findings out. Pure: it knows of no network, no Azure and no Partner Center."""

from shared.manifest.checks import serial_of
from shared.manifest.destination import Customer, Customers, Destination, find_destination, is_addressable
from shared.manifest.device import Device
from shared.manifest.findings import Code, Finding, Refused, without_hashes
from shared.manifest.reading import Manifest, Rules, Verdict, read_manifest

__all__ = [
    "Code",
    "Customer",
    "Customers",
    "Destination",
    "Device",
    "Finding",
    "Manifest",
    "Refused",
    "Rules",
    "Verdict",
    "find_destination",
    "is_addressable",
    "read_manifest",
    "serial_of",
    "without_hashes",
]
