"""A server that speaks TLS, with a certificate of an authority of its own, before one that does not."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Front:
    """Its address, and the file of the authority that signed for it."""

    endpoint: str
    ca: Path


@contextmanager
def front(of: str, folder: Path) -> Iterator[Front]:
    """TLS before the server at ``of``, until the context ends."""
    ca = folder / "ca.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_signed(ca))
    parts = urlsplit(of)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        target = (parts.hostname or "", parts.port or 0)
        threading.Thread(target=_serve, args=(listening, context, target), daemon=True).start()
        yield Front(f"https://127.0.0.1:{listening.getsockname()[1]}", ca)
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def _serve(listening: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    with suppress(OSError):
        while True:
            plain, _ = listening.accept()
            threading.Thread(target=_join, args=(plain, context, target), daemon=True).start()


def _join(plain: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    with (
        suppress(OSError),
        context.wrap_socket(plain, server_side=True) as near,
        socket.create_connection(target) as far,
    ):
        back = threading.Thread(target=_pour, args=(far, near), daemon=True)
        back.start()
        _pour(near, far)
        back.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65536):
            sink.sendall(content)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _signed(ca: Path) -> Path:
    """Write the authority's certificate to ``ca``, and what the server needs, beside it."""
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of our own")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)

    def begun(of: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().issuer_name(issuer).subject_name(of).public_key(public)
        made = made.serial_number(x509.random_serial_number())
        return made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))

    root = begun(issuer, authority.public_key()).add_extension(
        x509.BasicConstraints(True, None), critical=True
    )
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    leaf = begun(name, key.public_key()).add_extension(names, critical=False)
    leaf = leaf.add_extension(x509.BasicConstraints(False, None), critical=True)
    pem = serialization.Encoding.PEM
    ca.write_bytes(root.sign(authority, hashes.SHA256()).public_bytes(pem))
    chain = ca.with_name("server.pem")
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain.write_bytes(private + leaf.sign(authority, hashes.SHA256()).public_bytes(pem))
    return chain
