"""Secrets: made at random, shown once, kept as hashes."""

from __future__ import annotations

import functools
import hashlib
import secrets
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pwdlib import PasswordHash

TOKEN = "rtl_"
"""Every API token begins so, that it can be found where it should not be."""


def new_secret() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def kept_of(secret: str) -> str:
    """What the database keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def csrf_of(secret: str) -> str:
    """The word that a page must show with every change, from the secret of its cookie."""
    return hashlib.sha256(b"csrf " + secret.encode()).hexdigest()[:43]


def same(a: str, b: str) -> bool:
    """Whether two words are the same, in a time that does not tell where they differ."""
    return secrets.compare_digest(a.encode(), b.encode())


@functools.cache
def _hasher() -> PasswordHash:
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    return PasswordHash((Argon2Hasher(),))


@functools.cache
def _nobody() -> str:
    return _hasher().hash(new_secret())


def hashed(password: str) -> str:
    """Argon2 hash of a password."""
    return _hasher().hash(password)


def is_password(password: str, kept: str | None) -> bool:
    """Whether it is the password; as slow for users that do not exist."""
    return _hasher().verify(password, kept or _nobody()) and kept is not None


class Patience:
    """A few tries at once, then one every so many seconds, for each name and address."""

    def __init__(self, tries: int = 5, seconds: float = 12.0) -> None:
        self.tries, self.seconds = tries, seconds
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def may_try(self, who: str) -> bool:
        """Count a try; False where there were too many."""
        now = time.monotonic()
        with self._lock:
            left, before = self._left.get(who, (float(self.tries), now))
            left = min(float(self.tries), left + (now - before) / self.seconds)
            if left < 1:
                self._left[who] = (left, now)
                return False
            self._left[who] = (left - 1, now)
            if len(self._left) > 10_000:
                self._left = {k: v for k, v in self._left.items() if now - v[1] < self.tries * self.seconds}
            return True

    def forgive(self, who: str) -> None:
        """It was the right one."""
        with self._lock:
            self._left.pop(who, None)
