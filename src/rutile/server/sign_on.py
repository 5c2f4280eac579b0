"""Single sign-on: the authorization code flow of OpenID Connect Core 1.0 (section 3.1) with PKCE (RFC 7636).

The provider is asked by us alone: for its addresses and keys, and for an id token in exchange for the code that a
browser brings back. Nothing of it is believed before the signature and all claims of that token are checked.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import importlib.util
import json
import logging
import re
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote_plus, urlencode, urlsplit

from rutile.core.errors import FileError, MissingPackageError
from rutile.server.secrets import new_secret
from rutile.server.settings import LOOPBACK, SignOnSettings

TIMEOUT = 5.0
"""Seconds that the provider has for an answer."""
KEPT = 3600.0
"""Seconds for which its addresses and keys are good."""
AGAIN = 30.0
"""Seconds until it is asked again after it failed, and at least between two questions for its keys."""
FLOW_LIVES = 600.0
"""Seconds that somebody may take to sign in there."""
LEEWAY = 60
"""Seconds by which clocks may differ."""
LONGEST = 1_000_000
"""Bytes of an answer."""
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA"]
"""Of signatures: those with a public key only, so neither none nor one that is made with the client's secret."""
INSIDE = re.compile(r"/[\w/.=&?,:@%+-]{0,500}", re.ASCII)
"""Places of the page; they stand behind the # of our own address, so none leads elsewhere."""
log = logging.getLogger("rutile.server")


class RefusedError(Exception):
    """Somebody does not come in by single sign-on.

    Args:
        why: one of the words that the page has a sentence for: unreachable, wrong (the provider, or how it is set up),
            again (this browser did not begin, or too long ago), declined, invalid (what it said cannot be trusted),
            stranger, closed, nobody (no group that may come in), taken, wait.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class Flow:
    """One way to the provider and back; all of it follows from the secret that the browser keeps in a cookie."""

    secret: str

    @classmethod
    def begun(cls, place: str = "/", connects: int = 0) -> Flow:
        """A new one.

        Args:
            place: of the page, to which it leads in the end.
            connects: number of the user who is to be connected; 0: somebody signs in.
        """
        inside = place if INSIDE.fullmatch(place) else "/"
        end = base64.urlsafe_b64encode(inside.encode()).decode().rstrip("=")
        return cls(f"{int(time.time())}.{connects}.{end}.{new_secret()}")

    @classmethod
    def of(cls, cookie: str | None) -> Flow:
        """That of a browser.

        Raises:
            RefusedError: it began none, or too long ago.
        """
        if cookie is None or not re.fullmatch(r"\d{1,12}\.\d{1,10}\.[\w-]+\.[\w-]{43}", cookie, re.ASCII):
            raise RefusedError("again")
        if not 0 <= time.time() - int(cookie.partition(".")[0]) <= FLOW_LIVES:
            raise RefusedError("again")
        return cls(cookie)

    @property
    def connects(self) -> int:
        """Number of the user who is to be connected; 0: somebody signs in."""
        return int(self.secret.split(".")[1])

    @property
    def place(self) -> str:
        """Place of the page, to which it leads in the end."""
        end = self.secret.split(".")[2]
        try:
            place = base64.urlsafe_b64decode(end + "=" * (-len(end) % 4)).decode()
        except ValueError:
            return "/"
        return place if INSIDE.fullmatch(place) else "/"

    def word(self, use: str) -> str:
        """A word that tells nothing of the secret: state, nonce, or verifier (43 signs)."""
        digest = hashlib.sha256(f"{use} {self.secret}".encode()).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True)
class Told:
    """What the provider says of somebody."""

    subject: str
    """Their number there, which nobody else ever gets."""
    name: str
    """What they are called there; others may be called so tomorrow."""
    full_name: str
    mail: str
    """Only where the provider has verified it; small letters."""
    groups: frozenset[str]


class Provider:
    """The provider of single sign-on."""

    def __init__(self, settings: SignOnSettings) -> None:
        """Nothing is asked yet.

        Raises:
            MissingPackageError: Authlib is not installed.
            FileError: the file with the secret cannot be read.
        """
        if importlib.util.find_spec("authlib") is None:
            raise MissingPackageError("sign_on needs the package authlib: pip install 'rutile[oidc]'")
        self.settings = settings
        self._secret = _secret_of(settings)
        self._lock = threading.Lock()
        self._found: dict[str, Any] = {}
        self._problem, self._until = "", 0.0
        self._keys: Any = None
        self._keys_at = 0.0
        self._used: dict[str, float] = {}

    def problem(self) -> str:
        """Why nobody can sign in there now, as far as we know; asks now and then, and never waits for another asker."""
        if time.monotonic() > self._until and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._problem

    def way(self, flow: Flow, back: str) -> str:
        """The address to which a browser goes to sign in.

        Args:
            flow: of this browser.
            back: our address to which it is sent back.

        Raises:
            RefusedError: the provider cannot be reached.
        """
        from authlib.common.urls import add_params_to_uri
        from authlib.oauth2.rfc7636 import create_s256_code_challenge

        asked = {
            "response_type": "code", "client_id": self.settings.client, "redirect_uri": back,
            "scope": " ".join(self.settings.scopes), "state": flow.word("state"), "nonce": flow.word("nonce"),
            "code_challenge": create_s256_code_challenge(flow.word("verifier")), "code_challenge_method": "S256",
        }  # fmt: skip
        return str(add_params_to_uri(self._addresses()["authorization_endpoint"], list(asked.items())))

    def told(self, code: str, flow: Flow, back: str) -> Told:
        """Who has come back with a code.

        Raises:
            RefusedError: the code is not good, the token cannot be trusted, or the provider does not answer.
        """
        self._use(flow)
        found = self._addresses()
        answer = self._exchange(found, code, flow, back)
        claims = self._checked(answer, found, flow)
        wanted = {self.settings.name_claim, self.settings.groups_claim.partition(".")[0]}
        if not wanted <= claims.keys() and found.get("userinfo_endpoint") and answer.get("access_token"):
            more = asked(found["userinfo_endpoint"], {"Authorization": f"Bearer {answer['access_token']}"})
            if more.get("sub") != claims["sub"]:
                _distrust("its information is about somebody else")
            claims = more | claims
        return self._understood(claims)

    def _use(self, flow: Flow) -> None:
        """Each flow comes back once."""
        now = time.time()
        with self._lock:
            self._used = {word: end for word, end in self._used.items() if end > now}
            if flow.word("state") in self._used:
                raise RefusedError("again")
            self._used[flow.word("state")] = now + FLOW_LIVES

    def _addresses(self) -> dict[str, Any]:
        """Where the provider has what; asked for when that is too old."""
        with self._lock:
            if time.monotonic() > self._until:
                self._look()
            if self._problem:
                raise RefusedError(self._problem)
            return self._found

    def _look(self) -> None:
        """Ask for its addresses, and note what is wrong with them."""
        try:
            self._found = discovered(self.settings.issuer)
            self._problem, self._until = "", time.monotonic() + KEPT
        except RefusedError as refused:
            self._problem, self._until = refused.why, time.monotonic() + AGAIN

    def _exchange(self, found: dict[str, Any], code: str, flow: Flow, back: str) -> dict[str, Any]:
        """Tokens for a code (RFC 6749, sections 2.3.1 and 4.1.3)."""
        client = self.settings.client
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": back, "client_id": client,
            "code_verifier": flow.word("verifier"),
        }  # fmt: skip
        headers = {}
        ways = found.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if self._secret and "client_secret_basic" in ways:
            words = f"{quote_plus(client)}:{quote_plus(self._secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(words.encode()).decode()}"
        elif self._secret:
            form["client_secret"] = self._secret
        return asked(found["token_endpoint"], headers, form)

    def _checked(self, answer: dict[str, Any], found: dict[str, Any], flow: Flow) -> dict[str, Any]:
        """The claims of the id token, all of them checked (OpenID Connect Core 1.0, section 3.1.3.7)."""
        from authlib.oidc.core import CodeIDToken
        from joserfc.errors import JoseError

        options = {
            "iss": {"essential": True, "value": self.settings.issuer},
            "aud": {"essential": True, "value": self.settings.client},
        }
        params = {
            "nonce": flow.word("nonce"), "client_id": self.settings.client, "access_token": answer.get("access_token"),
        }  # fmt: skip
        try:
            token = self._signed(str(answer.get("id_token", "")), found)
            claims = CodeIDToken(token.claims, token.header, options, params)
            claims.validate(leeway=LEEWAY)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            _distrust(f"{type(error).__name__}: {error}")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= 255:
            _distrust("its claim sub is no text of 1 to 255 signs")
        return dict(claims)

    def _signed(self, token: str, found: dict[str, Any]) -> Any:
        """A token whose signature is right; keys are asked for again where it names one that we do not know."""
        from joserfc import jwt
        from joserfc.errors import InvalidKeyIdError

        try:
            return jwt.decode(token, self._key_set(found), algorithms=ALGORITHMS)
        except InvalidKeyIdError:
            return jwt.decode(token, self._key_set(found, AGAIN), algorithms=ALGORITHMS)

    def _key_set(self, found: dict[str, Any], kept: float = KEPT) -> Any:
        """Its keys, none older than so many seconds."""
        with self._lock:
            now = time.monotonic()
            if self._keys is None or now - self._keys_at > kept:
                self._keys = keys_of(asked(found["jwks_uri"]))
                self._keys_at = now
            return self._keys

    def _understood(self, claims: dict[str, Any]) -> Told:
        groups: Any = claims
        for piece in self.settings.groups_claim.split("."):
            groups = groups.get(piece) if isinstance(groups, dict) else None
        groups = [groups] if isinstance(groups, str) else groups
        verified = claims.get("email_verified") in (True, "true")
        return Told(
            subject=claims["sub"], name=str(claims.get(self.settings.name_claim) or "")[:200],
            full_name=str(claims.get("name") or "")[:200],
            mail=str(claims.get("email") or "").strip().lower() if verified else "",
            groups=frozenset(g for g in groups if isinstance(g, str)) if isinstance(groups, list) else frozenset(),
        )  # fmt: skip


def discovered(issuer: str) -> dict[str, Any]:
    """The addresses of a provider (OpenID Connect Discovery 1.0, section 4).

    Raises:
        RefusedError: it does not answer (unreachable), or what it answers cannot be its description (wrong).
    """
    found = asked(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if found.get("issuer") != issuer:
        _wrong(f"{issuer} calls itself {str(found.get('issuer'))[:200]}: sign_on.issuer must be exactly that")
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"):
        value = found.get(name)
        if value is None and name == "userinfo_endpoint":
            continue
        parts = urlsplit(value) if isinstance(value, str) else urlsplit("")
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            _wrong(f"{issuer}: its {name} is {str(value)[:200]}, and should begin with https://")
    return found


def keys_of(told: dict[str, Any]) -> Any:
    """The keys of a provider that sign; those of kinds that we do not know are left out.

    Raises:
        RefusedError: there is none.
    """
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry, KeySet

    keys = []
    for one in told.get("keys") or []:
        try:
            key = JWKRegistry.import_key(one)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            continue
        if key.key_type != "oct" and one.get("use", "sig") == "sig":
            keys.append(key)
    if not keys:
        _wrong("no key of the provider of single sign-on can be used")
    return KeySet(keys)


class _Stays(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: what is sent is for the provider alone."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        """None: there is nothing to follow."""


def asked(address: str, headers: dict[str, str] | None = None, form: dict[str, str] | None = None) -> dict[str, Any]:
    """The object of JSON at an address, or in answer to a form.

    Raises:
        RefusedError: no answer (unreachable), one of error (wrong; to a form of ours: invalid), or no JSON (wrong).
    """
    data = None if form is None else urlencode(form).encode()
    request = urllib.request.Request(address, data, {"Accept": "application/json", **(headers or {})})
    place = f"single sign-on: {address}"
    try:
        with urllib.request.build_opener(_Stays).open(request, timeout=TIMEOUT) as answer:
            told = json.loads(answer.read(LONGEST))
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(300).decode(errors="replace")
        log.warning("%s answers %d: %s", place, error.code, said)
        grant = form is not None and "invalid_grant" in said
        raise RefusedError("invalid" if grant else "unreachable" if error.code >= 500 else "wrong") from None
    except (OSError, http.client.HTTPException) as error:
        log.warning("%s cannot be reached: %s", place, error)
        raise RefusedError("unreachable") from None
    except ValueError as error:
        _wrong(f"{address} does not answer in JSON: {error}")
    if not isinstance(told, dict):
        _wrong(f"{address} does not answer with an object of JSON")
    return told


def _secret_of(settings: SignOnSettings) -> str:
    if settings.secret_file is None:
        return ""
    path = settings.secret_file.expanduser()
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise FileError(f"sign_on.secret_file = {path}: cannot be read: {getattr(error, 'strerror', error)}") from None
    if not secret:
        raise FileError(f"sign_on.secret_file = {path}: it is empty; write the client's secret into it")
    return secret


def _distrust(why: str) -> NoReturn:
    log.warning("single sign-on: what the provider said cannot be trusted: %s", why)
    raise RefusedError("invalid") from None


def _wrong(why: str) -> NoReturn:
    log.warning("single sign-on: %s", why)
    raise RefusedError("wrong") from None
