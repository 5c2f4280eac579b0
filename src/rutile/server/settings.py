"""Settings of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from rutile.core.settings import Settings
from rutile.core.units import Gigabyte, Percent
from rutile.jobs.settings import SlurmPlace

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class MailSettings(Settings):
    """The server that takes our mail."""

    host: str
    """Its name."""
    port: int = Field(default=587, ge=1, le=65535)
    """Its port."""
    sender: str = Field(pattern=r"^[^\s@]+@[^\s@]+$")
    """Address from which mail comes."""
    encryption: Literal["starttls", "tls", "none"] = "starttls"
    """tls: from the first byte on (port 465)."""
    user: str = ""
    """Name to sign in with."""
    password_file: Path | None = None
    """File with its password; by default nobody signs in."""


class SignOnSettings(Settings):
    """The OpenID Connect provider of an institution, which says who people are (needs rutile[oidc])."""

    issuer: str
    """Its address, as it calls itself, such as https://login.example.org/realms/chemistry."""
    client: str = Field(min_length=1)
    """Name under which it knows this server (client id)."""
    secret_file: Path | None = None
    """File with the client's secret; by default there is none, and PKCE alone ties an answer to its question."""
    name: str = Field(default="single sign-on", min_length=1, max_length=60)
    """What the page calls it: "Sign in with ..."."""
    scopes: list[str] = ["openid", "profile", "email"]
    """What it is asked for; some tell groups only when asked for `groups`."""
    name_claim: str = "preferred_username"
    """Claim that names new accounts."""
    groups_claim: str = "groups"
    """Claim with somebody's groups, a list; a dot leads into an object, as in realm_access.roles."""
    roles: dict[str, Literal["admin", "user", "viewer"]] = {}
    """What members of its groups may do here; the highest counts, anew at every sign-in. By default administrators
    of this server decide."""
    role: Literal["user", "viewer", "none"] = "user"
    """Role of new accounts, and where `roles` is given of everybody in none of its groups; none: they are refused."""
    groups: dict[str, str] = {}
    """Groups here for members of its groups; the first that fits, made where it is missing, anew at every sign-in. By
    default administrators of this server decide."""
    unknown: bool = False
    """Whether people whom nobody invited get an account."""

    @model_validator(mode="after")
    def _safe(self) -> SignOnSettings:
        parts = urlsplit(self.issuer)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise ValueError(f"issuer = {self.issuer}: expected https://...; only this machine may do without TLS")
        if not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError(f"issuer = {self.issuer}: expected https://host/path and nothing behind it")
        if "openid" not in self.scopes:
            raise ValueError(f"scopes = {self.scopes}: openid must be among them")
        return self


class ServeSettings(Settings):
    """Where the platform listens, keeps its files, and what jobs may take."""

    home: Path = Path("~/.rutile")
    """Folder of everything that the platform keeps."""
    host: str = "127.0.0.1"
    """Address to listen at. Others than this machine can reach 0.0.0.0; it needs accounts with passwords, and `proxy`
    (TLS by a server in front) or `certificate` and `key`."""
    port: int = Field(default=8765, ge=0, le=65535)
    """Port; 0: any that is free."""
    names: list[str] = []
    """Names under which browsers reach this server, besides those of this machine, such as rutile.example.org."""
    address: str = Field(default="", pattern=r"^(https?://[^\s/?#@]+)?$")
    """Under which browsers reach this server, such as https://rutile.example.org; by default the first of `names` (or
    `host`) and `port`."""
    database: str = ""
    """URL of the database, such as postgresql+psycopg://user@host/rutile; by default a file of SQLite in `home`."""
    cores: int | None = Field(default=None, ge=1)
    """Cores of this machine that jobs may use together; by default all."""
    memory: Gigabyte | None = Field(default=None, gt=0)
    """Memory of this machine that jobs may ask for together; by default all."""
    cores_percent: Percent | None = Field(default=None, gt=0, le=100)
    """Share of the cores, and of the GPUs, of a queue that the jobs of one account may hold at the same time, where
    administrators gave the account none of its own; by default all."""
    clusters: list[SlurmPlace] = []
    """Clusters that jobs can be sent to."""
    commands: bool = False
    """Whether jobs may name programs and lines of shell (`engine.command`, `executor.prologue`): only where everybody
    with an account may run anything as this user."""
    notebooks: Literal["nobody", "admins", "users"] = "nobody"
    """Who may open notebooks (JupyterLab; the extra `notebook`). Who may, runs anything as the user of this server, and
    without `sandbox` reads and changes everything that the platform keeps."""
    sandbox: bool = False
    """Whether jobs run in a sandbox (bubblewrap): they read the machine, but no home and nothing of other users, and
    write only their own folder."""
    sandbox_readable: list[Path] = []
    """Places in the home of the user of this server, or in /tmp, that jobs in the sandbox may read: programs,
    pseudopotentials."""
    proxy: bool = False
    """A server in front does TLS and says who asks (X-Forwarded-For, X-Forwarded-Proto)."""
    certificate: Path | None = None
    """Certificate for TLS (PEM)."""
    key: Path | None = None
    """Its key (PEM)."""
    upload_limit: Gigabyte = Field(default=20.0, gt=0)
    """Largest file that can be uploaded."""
    mail: MailSettings | None = None
    """By which users are told of their jobs; by default no mail is sent."""
    sign_on: SignOnSettings | None = None
    """By which people sign in with the account of their institution, besides passwords; needs `address`."""
    webhooks_inside: bool = False
    """Whether users may be told by webhooks at addresses of this machine and of private networks."""
    restore: Path | None = None
    """Put this backup of the database (SQLite) back first; what was there stays beside it."""
    adopt: list[Path] = []
    """Folders of runs made outside, put in as jobs that have ended, once: those with a file jobs.json, such as that of
    `rutile demo`."""
    browser: bool = False
    """Open the page in a browser."""

    @property
    def local(self) -> bool:
        """Whether only this machine reaches the server."""
        return self.host in LOOPBACK

    @property
    def url(self) -> str:
        """Of the database."""
        return self.database or f"sqlite:///{(self.home.expanduser().absolute() / 'platform.db')}"

    @property
    def secrets(self) -> list[Path]:
        """Files that hold them."""
        files = [self.key]
        files += [self.mail.password_file] if self.mail else []
        files += [self.sign_on.secret_file] if self.sign_on else []
        return [file.expanduser().absolute() for file in files if file is not None]

    @property
    def hosts(self) -> list[str]:
        """Names in the requests of browsers; all others are refused."""
        return [*LOOPBACK, "[::1]", *self.names, *filter(None, [urlsplit(self.address).hostname])]

    @model_validator(mode="after")
    def _both_or_none(self) -> ServeSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both")
        if self.sign_on is not None and not self.local and not self.address:
            raise ValueError("sign_on: its provider sends browsers back to one address: give address=https://...")
        if not self.local and not self.proxy and self.certificate is None:
            raise ValueError(
                f"host = {self.host}: passwords would cross the network unencrypted; give certificate and key, or "
                "proxy=true where a server in front does TLS"
            )
        return self
