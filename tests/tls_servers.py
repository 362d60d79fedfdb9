"""TLS in front of the embedded servers, whose builds have none, vouched for by an authority of our own."""

import asyncio
import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# What a Postgres client sends before it speaks TLS: a length of 8, and the code of the request for it.
SSL_REQUEST: Final = bytes.fromhex("0000000804d2162f")
_ACCEPTED: Final = b"S"


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and what a server on 127.0.0.1 shows that it has vouched for."""

    certificate: Path
    server: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server)
        return context


def make_authority(
    directory: Path, host: str = "127.0.0.1", *, server_names: Sequence[str] = ()
) -> Authority:
    """An authority that vouches for one address, and for names of the server there."""
    directory.mkdir()
    now = dt.datetime.now(dt.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("authority", "server")]
    address = x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address(host)), *(x509.DNSName(each) for each in server_names)]
    )
    signs = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    extensions = (
        [(x509.BasicConstraints(ca=True, path_length=0), True), (signs, True)],
        [(x509.BasicConstraints(ca=False, path_length=None), True), (address, False)],
    )
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key())
    certificates = []
    for key, name, given in zip(keys, names, extensions, strict=True):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(authority_id, critical=False)
        )
        for extension, critical in given:
            builder = builder.add_extension(extension, critical=critical)
        certificates.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = Authority(directory / "authority.pem", directory / "server.pem")
    made.certificate.write_bytes(certificates[0])
    made.server.write_bytes(private + certificates[1])
    return made


@contextmanager
def tls_in_front_of(port: int, context: ssl.SSLContext, *, postgres: bool) -> Iterator[int]:
    """A port on 127.0.0.1 that takes TLS only and passes what it hears on to another one.

    Postgres' clients ask for TLS in the clear first.
    """

    connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = connections[task] = [writer]
        try:
            if postgres:
                if await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
                    return
                writer.write(_ACCEPTED)
                await writer.drain()
                await writer.start_tls(context)
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(behind_writer)
            await asyncio.gather(_pass(reader, behind_writer), _pass(behind_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            _abort(writers)
            del connections[task]

    stopping: list[Callable[[], object]] = []
    ports: Queue[int] = Queue()

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stopping.append(lambda: loop.call_soon_threadsafe(stop.set))
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=None if postgres else context)
        ports.put(server.sockets[0].getsockname()[1])
        await stop.wait()
        server.close()
        for writers in connections.values():
            _abort(writers)
        await asyncio.gather(*connections)
        await asyncio.sleep(0.05)  # until aborted transports are closed

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    try:
        yield ports.get(timeout=10)
    finally:
        stopping[0]()
        thread.join()


def _abort(writers: list[asyncio.StreamWriter]) -> None:
    for each in writers:
        each.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what is heard. When one side has ended, so has the connection."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError
