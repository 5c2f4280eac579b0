"""A small OpenID provider: it signs everybody in as whom a test says, and lies where a test says so."""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

CLIENT, SECRET = "rutile client", "s3cr:t/+ü"


@cache
def signing_key():
    """A key of RSA: made once, it takes long."""
    return RSAKey.generate_key(2048, auto_kid=True)


class Provider:
    """What it knows: who signs in next, codes that it gave, its keys, and what it lies about."""

    def __init__(self, address):
        self.issuer = address
        self.keys = [signing_key()]
        self.key = self.keys[0]
        """Signs; tests may take one that is not among its keys."""
        self.secret = SECRET.encode()
        """Signs where the algorithm takes a secret."""
        self.header = {}
        """Changes of the header of tokens."""
        self.person = {"sub": "1", "preferred_username": "ben", "email": "ben@example.org", "email_verified": True}
        self.claims = {}
        """Changes of the claims of tokens."""
        self.document = {}
        """Changes of its description."""
        self.info = {}
        """What it tells beside the token."""
        self.once = True
        """Whether a code is good once only."""
        self.codes, self.asked = {}, []

    def address_of(self, path):
        return f"{self.issuer}{path}"

    def describe(self):
        places = {f"{name}_endpoint": self.address_of(f"/{name}") for name in ("authorization", "token", "userinfo")}
        return {"issuer": self.issuer, "jwks_uri": self.address_of("/keys"), **places} | self.document

    def authorize(self, query):
        """Sign in: the address to which the browser goes back."""
        assert query["code_challenge_method"] == "S256"
        assert query["response_type"] == "code"
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'iss': self.issuer})}"

    def token(self, form, authorization):
        kind, _, words = authorization.partition(" ")
        client, _, secret = base64.b64decode(words).decode().partition(":")
        if (kind, unquote_plus(client), unquote_plus(secret)) != ("Basic", CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form["code"], None) if self.once else self.codes.get(form["code"])
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        wrong = asked is None or asked["code_challenge"] != challenge.decode()
        if wrong or asked["redirect_uri"] != form["redirect_uri"] or asked["client_id"] != form["client_id"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": asked["nonce"]}
        claims = {k: v for k, v in (claims | self.person | self.claims).items() if v is not None}
        return 200, {"access_token": "opens", "token_type": "Bearer", "id_token": self.signed(claims)}

    def signed(self, claims):
        header = {"alg": "ES256" if isinstance(self.key, ECKey) else "RS256", "kid": self.key.kid} | self.header
        if header["alg"] not in ("none", "HS256"):
            return jwt.encode(header, claims, self.key, algorithms=[header["alg"]])
        pieces = [base64.urlsafe_b64encode(json.dumps(piece).encode()).rstrip(b"=") for piece in (header, claims)]
        made = hmac.digest(self.secret, b".".join(pieces), "sha256") if header["alg"] == "HS256" else b""
        return b".".join([*pieces, base64.urlsafe_b64encode(made).rstrip(b"=")]).decode()

    def answer(self, path, query, form, authorization):
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            return 200, self.describe()
        if path == "/keys":
            return 200, KeySet(self.keys).as_dict()
        if path == "/token":
            return self.token(form, authorization)
        if path == "/userinfo" and authorization == "Bearer opens":
            return 200, {"sub": self.person["sub"]} | self.info
        if path == "/authorization":
            return 303, self.authorize(query)
        return 404, {"error": path}


@contextmanager
def provider_at_work():
    """A provider at a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length", 0))
            form = dict(parse_qsl(self.rfile.read(length).decode()))
            authorization = self.headers.get("Authorization", "")
            code, told = provider.answer(parts.path, dict(parse_qsl(parts.query)), form, authorization)
            self.send_response(code)
            if code == 303:
                self.send_header("Location", told)
                told = ""
            content = json.dumps(told).encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield provider
    server.shutdown()
    server.server_close()
    thread.join()
