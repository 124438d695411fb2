"""Downloads over TLS: certificates are checked against the host's name."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest

from http_client.outgoing import Outgoing
from media.errors import MediaForbidden, MediaNotFound, MediaUnreadable
from media.network import downloads
from media.network.downloads import fetch
from settings import NetworkSettings
from tests.certificates import Authority
from tests.unit.media.local_downloads import PUBLIC, get, redirect


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for the name cats.example and its key, in one file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("cats.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def tls_server(server: Any, certificate: Path, resolver: Any, connected: list[str]) -> Any:
    """The server with TLS; every name leads to it, by way of a public address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    resolver([PUBLIC])
    return server


def test_certificate_is_checked_against_the_name(
    tls_server: Any, certificate: Path, connected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(downloads, "_tls_context", lambda: trusting)
    tls_server.answer("/cat", b"cat")
    assert get(f"https://cats.example:{tls_server.port}/cat", hosts=()) == b"cat"
    assert connected == [PUBLIC]
    with pytest.raises(MediaNotFound, match="certificate"):
        get(f"https://dogs.example:{tls_server.port}/cat", hosts=())


def test_unknown_certificate_is_refused(tls_server: Any) -> None:
    with pytest.raises(MediaNotFound, match="certificate"):
        get(f"https://cats.example:{tls_server.port}/", hosts=())
    assert tls_server.seen == []


def test_authority_of_the_settings_is_trusted(server: Any, tmp_path: Path, resolver: Any, connected: list[str]) -> None:
    authority = Authority(tmp_path)
    server.socket = authority.server_context("cats.example").wrap_socket(server.socket, server_side=True)
    server.answer("/cat", b"cat")
    resolver([PUBLIC])
    url = f"https://cats.example:{server.port}/cat"
    with pytest.raises(MediaNotFound, match=r"set VLLM_CA_FILE \(or SSL_CERT_FILE\)"):
        get(url, hosts=())
    trusting = Outgoing(NetworkSettings(ca_file=str(authority.file))).tls_context
    assert fetch(url, max_bytes=100, timeout_s=10, tls_context=trusting) == b"cat"
    unusable = Outgoing(NetworkSettings(ca_file=str(tmp_path / "none"))).tls_context
    with pytest.raises(MediaUnreadable, match="The file of VLLM_CA_FILE cannot be used"):
        fetch(url, max_bytes=100, timeout_s=10, tls_context=unusable)
    assert connected == [PUBLIC, PUBLIC]


def test_redirect_from_https_to_http_is_refused(
    tls_server: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(downloads, "_tls_context", lambda: trusting)
    redirect(tls_server, "/", "http://cats.example/")
    with pytest.raises(MediaForbidden, match="from https to http"):
        get(f"https://cats.example:{tls_server.port}/", hosts=())
