"""The built page as it ships: small at first sight, and with nothing that needs another server."""

import gzip
import re
from pathlib import Path

import rutile.server

STATIC = Path(rutile.server.__file__).parent / "static"
FIRST_LOAD = 500_000
"""Bytes that a first look at the page may cost, compressed."""


def test_a_first_look_at_any_page_is_light():
    everything = {p for p in STATIC.rglob("*") if p.suffix in (".js", ".css", ".html") and "Viewer" not in p.name}
    assert STATIC / "index.html" in everything
    size = sum(len(gzip.compress(p.read_bytes())) for p in everything)
    assert 20_000 < size < FIRST_LOAD


def test_the_page_loads_nothing_from_elsewhere():
    index = (STATIC / "index.html").read_text(encoding="utf-8")
    addresses = re.findall(r'(?:src|href)="([^"]+)"', index)
    assert addresses
    for address in addresses:
        assert (STATIC / address).is_file(), address
