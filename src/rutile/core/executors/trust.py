"""Only our own workers may connect: whoever can talk to Dask's scheduler can run code as its user.

Each run makes a certificate of its own, which scheduler and workers ask of each other (TLS).
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rutile.core.reporting import Reporter

if TYPE_CHECKING:
    from distributed import Security


def credentials(reporter: Reporter) -> Security | None:
    """A new certificate; None, with a warning, where the package that makes it is not installed."""
    from distributed import Security

    if importlib.util.find_spec("cryptography") is None:
        reporter.warn(
            "package cryptography is not installed: anybody who can reach the network port of this process could run "
            "code as you while it lasts; pip install cryptography"
        )
        return None
    made: Security = Security.temporary()
    return made


def in_files(security: Security, folder: Path, name: str) -> Security:
    """The same for workers on other machines, in files that only the user can read; `forget` removes them.

    Raises:
        OSError: the folder cannot be written.
    """
    from distributed import Security

    found = security.get_tls_config_for_role("worker")
    paths = {}
    for key in ("ca_file", "cert", "key"):
        paths[key] = folder / f"{name}-{key}.pem"
        handle = os.open(paths[key], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(str(found[key]))
    return Security(
        tls_ca_file=str(paths["ca_file"]),
        tls_worker_cert=str(paths["cert"]),
        tls_worker_key=str(paths["key"]),
        require_encryption=True,
    )


def forget(folder: Path, name: str) -> None:
    """Remove the files."""
    for key in ("ca_file", "cert", "key"):
        (folder / f"{name}-{key}.pem").unlink(missing_ok=True)
