"""How a program that the platform started finds it: a file beside the job that only its owner can read.

connection.json   address of the server, a token that ends with the job, and the number of the job
door.json         where a notebook listens, with its own token: written by the notebook, read by the server
certificate.pem   certificate of a server with TLS, which the program trusts
key.pem           its key, for a notebook that others reach over the network, which then has TLS, too
"""

from __future__ import annotations

import json
import os
import ssl
from pathlib import Path
from typing import Any

from rutile.core.errors import FileError

VARIABLE = "RUTILE_CONNECTION"
"""The variable that names the file; it never holds a secret itself."""
CONNECTION, DOOR, CERTIFICATE, KEY = "connection.json", "door.json", "certificate.pem", "key.pem"
ADDRESS, TOKEN = "RUTILE_ADDRESS", "RUTILE_TOKEN"
"""Variables by which somebody says address and token."""


def write_private(path: Path, value: dict[str, Any] | bytes) -> None:
    """Replace a file that nobody else can read, at no moment: by JSON, or by bytes as they are.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(value if isinstance(value, bytes) else json.dumps(value).encode())
    temporary.replace(path)


def connection_file() -> Path | None:
    """The file that the platform made for this program; None where the platform did not start it."""
    named = os.environ.get(VARIABLE, "")
    return Path(named) if named else None


def found_certificate() -> Path | None:
    """The certificate of the platform that started this program; None where it has none, or did not start it."""
    connection = connection_file()
    path = connection.with_name(CERTIFICATE) if connection else None
    return path if path and path.exists() else None


def trust_in(certificate: Path | None) -> ssl.SSLContext:
    """What is trusted: all that this machine trusts, and this certificate itself, also one that nobody else signed.

    Raises:
        FileError: it cannot be read.
    """
    out = ssl.create_default_context()
    if certificate is not None:
        try:
            out.load_verify_locations(certificate)
        except OSError as error:
            raise FileError(f"{certificate}: {error.strerror or error}; give a certificate in PEM") from None
        out.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return out


def found_connection() -> tuple[str, str]:
    """Address and token of the platform, from what surrounds this program.

    Raises:
        FileError: nothing says them, or the file of the platform cannot be read.
    """
    address, token = os.environ.get(ADDRESS, ""), os.environ.get(TOKEN, "")
    if address and token:
        return address, token
    path = connection_file()
    if path is None:
        raise FileError(
            f"no platform is known here: give address and token, or set {ADDRESS} and {TOKEN} (a token is made on the "
            "page Account)"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return str(found["address"]), str(found["token"])
    except (OSError, ValueError, KeyError, TypeError):
        raise FileError(f"{path}: no address and token of a platform; give them: Client(address, token)") from None
