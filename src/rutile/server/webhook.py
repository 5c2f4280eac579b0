"""One signed message to an address that a user names: no redirects, no proxies, no addresses of our own networks."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
from urllib.parse import urlsplit

from rutile.core.errors import FileError, SettingsError

TIMEOUT = 10.0
"""Seconds."""
SIGNATURE, DELIVERY = "X-Rutile-Signature", "X-Rutile-Delivery"


class UnsureError(FileError):
    """It was sent, and nobody said whether it arrived: sending it again might make it arrive twice."""


def checked(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of the address of a webhook.

    Raises:
        SettingsError: it is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingsError(f"webhook = {url}: not an address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
        raise SettingsError(f"webhook = {url}: expected https://host/path, without name and password")
    if any(ord(sign) <= 32 or ord(sign) > 126 for sign in url):
        raise SettingsError(f"webhook = {url}: only letters, digits and signs of addresses")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), path


def outside(host: str, port: int, inside: bool) -> str:
    """A numerical address of a host; the connection goes to this one, whatever the name means a moment later.

    Args:
        host: name or address.
        port: of the service.
        inside: whether addresses of this machine and of private networks are allowed.

    Raises:
        FileError: there is no such host, or it is in one of our own networks.
    """
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError:
        raise FileError(f"webhook: no host {host}") from None
    if not inside and not all(public(address) for address in found):
        raise FileError(f"webhook: {host} is in a private network: ask the administrator (webhooks_inside)")
    return min(found)


def public(address: str) -> bool:
    """Whether an address belongs to the internet, and to nothing that leads back into a private network."""
    number = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(number, ipaddress.IPv6Address):
        if number.ipv4_mapped is not None:
            return public(str(number.ipv4_mapped))
        if number.sixtofour or number.teredo or number in ipaddress.ip_network("64:ff9b::/96"):
            return False
    return number.is_global and not number.is_multicast


def signature(secret: str, body: bytes) -> str:
    """What the receiver computes, too: HMAC-SHA256 of the body (RFC 2104)."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def post(url: str, body: bytes, secret: str, delivery: str, inside: bool) -> None:
    """Send a message.

    Raises:
        FileError: it was not taken: the answer is not one of success, or there was none.
    """
    scheme, host, port, path = checked(url)
    address = outside(host, port, inside)
    headers = {"Content-Type": "application/json", SIGNATURE: signature(secret, body), DELIVERY: delivery}
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        stream = socket.create_connection((address, port), timeout=TIMEOUT)
        secure = scheme == "https"
        connection.sock = ssl.create_default_context().wrap_socket(stream, server_hostname=host) if secure else stream
    except OSError as error:
        raise FileError(f"webhook: {host} cannot be reached: {error}") from None
    try:
        connection.request("POST", path, body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise UnsureError(f"webhook: {host} did not answer: {error}") from None
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise FileError(f"webhook: {host} answered {status}; redirects are not followed")
