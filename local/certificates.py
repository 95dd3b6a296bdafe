"""Certificates for one run of the local cloud: an authority, a server, and the partner's application."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import NoEncryption, load_pem_private_key, pkcs12


@dataclass(frozen=True, slots=True)
class Certificates:
    ca: Path
    server: Path
    key: Path

    def environment(self) -> dict[str, str]:
        """What makes requests (Azure SDK, MSAL) and httpx trust the local cloud, and nothing else."""
        return {"REQUESTS_CA_BUNDLE": str(self.ca), "SSL_CERT_FILE": str(self.ca)}

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.key)
        return context


@dataclass(frozen=True, slots=True)
class ApplicationCertificate:
    """The partner application's own certificate: it signs client assertions."""

    pfx: bytes
    certificate: x509.Certificate


def make_certificates(folder: Path) -> Certificates:
    """Writes ca.pem, server.pem and server.key to the folder."""
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(made.ca)
    server.private_key_pem.write_to_path(made.key)
    made.key.chmod(0o600)
    made.server.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    return made


def make_application_certificate(name: str = "autopilot-drop") -> ApplicationCertificate:
    # Entra takes RSA keys only.
    leaf = trustme.CA(key_type=trustme.KeyType.RSA).issue_cert(
        "localhost", common_name=name, key_type=trustme.KeyType.RSA
    )
    key = cast(RSAPrivateKey, load_pem_private_key(leaf.private_key_pem.bytes(), password=None))
    certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    pfx = pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, None, NoEncryption())
    return ApplicationCertificate(pfx, certificate)
