"""A client of the platform in Python, with nothing but the standard library.

>>> client = Client("http://127.0.0.1:8765", token="rtl_...")            # doctest: +SKIP
>>> job = client.submit("relax", {"structures": ["structure:7"], "model": "model:5"})   # doctest: +SKIP
>>> client.wait(job)["result"]["converged"]                              # doctest: +SKIP
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rutile.core.connection import found_certificate, found_connection, trust_in
from rutile.core.errors import FileError, RutileError

ENDED = ("DONE", "FAIL", "CANCEL")
PIECE = 16_000_000
"""Bytes of a piece of an upload."""


class Refused(RutileError):
    """The server refuses; `status` is the number of HTTP, the text what it says."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Client:
    """One account on one server.

    Without address and token those of the variables RUTILE_ADDRESS and RUTILE_TOKEN, or, in a notebook of the platform,
    those of its owner.

    Args:
        address: of the server, such as https://rutile.example.org.
        token: that begins with rtl_.
        timeout: seconds that an answer may take.

    Raises:
        FileError: neither is given, and nothing says them; one is given without the other; the address is none.
    """

    def __init__(self, address: str = "", token: str = "", timeout: float = 60.0) -> None:
        if not address and not token:
            address, token = found_connection()
        if not address or not token:
            raise FileError("Client: address and token belong together: give both, or neither")
        if not address.startswith(("http://", "https://")):
            raise FileError(f"address = {address!r}: expected http://host:port or https://host")
        self.address, self.token, self.timeout = address.rstrip("/"), token, timeout
        self._trust = trust_in(found_certificate()) if address.startswith("https:") else None

    def __repr__(self) -> str:
        return f"Client({self.address!r})"

    def request(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Ask anything of the API; `path` follows /api.

        Raises:
            Refused: the server refuses.
            FileError: the server is not there.
        """
        answer = self._send(method, path, body, query)
        return json.loads(answer) if answer else None

    def submit(self, task: str, settings: dict[str, Any], **wish: Any) -> int:
        """Submit a job; its number.

        `wish`: name, cores, memory, gpus, wall_time, queue, priority, privacy, tags, template_id.
        """
        return int(self.request("POST", "/jobs", {"task": task, "settings": settings} | wish)["id"])

    def job(self, number: int) -> dict[str, Any]:
        """Everything about a job."""
        found: dict[str, Any] = self.request("GET", f"/jobs/{number}")
        return found

    def jobs(self, **filter: Any) -> list[dict[str, Any]]:
        """A page of jobs, newest first; `filter`: search, state, task, owner, tag, since, until, sort, page, size."""
        items: list[dict[str, Any]] = self.request("GET", "/jobs", None, **filter)["items"]
        return items

    def every_job(self, **filter: Any) -> list[dict[str, Any]]:
        """All jobs that fit, of all pages; `filter` as of `jobs`."""
        rows: list[dict[str, Any]] = self.request("GET", "/jobs/export", None, format="json", **filter)
        return rows

    def wait(self, number: int, seconds: float | None = None, every: float = 1.0) -> dict[str, Any]:
        """Everything about a job, once it has ended, or after so many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            job = self.job(number)
            if job["state"] in ENDED or (end is not None and time.monotonic() > end):
                return job
            time.sleep(every)

    def files(self, number: int) -> list[dict[str, Any]]:
        """What a job wrote: path, size, kind, id, and the reference by which another job reads it."""
        rows: list[dict[str, Any]] = self.request("GET", f"/jobs/{number}/files")
        return rows

    def cancel(self, number: int) -> None:
        """End a job."""
        self.request("POST", f"/jobs/{number}/cancel")

    def log(self, number: int) -> str:
        """What a job printed."""
        return self._send("GET", f"/jobs/{number}/log/download").decode(errors="replace")

    def download(self, number: int, path: str, to: Path) -> Path:
        """Fetch a file that a job wrote.

        Raises:
            FileError: the job has no such file.
        """
        files = self.files(number)
        found = next((f for f in files if f["path"] == path), None)
        if found is None:
            raise FileError(f"job {number} has no file {path}; it has {', '.join(f['path'] for f in files[:20])}")
        to.write_bytes(self._send("GET", f"/jobs/{number}/files/{found['id']}/download"))
        return to

    def resources(self, *elements: str) -> list[dict[str, Any]]:
        """Public data: name, what, elements, method, frames, licence, doi, files, command; those that come first.

        `elements`: only sets that may hold structures with all of them, such as `client.resources("Ti", "O")`.
        """
        rows: list[dict[str, Any]] = self.request("GET", "/resources", None, elements=",".join(elements))
        return rows

    def models(self, **filter: Any) -> list[dict[str, Any]]:
        """A page of the models of the registry, newest first; `filter`: search, stage, elements, page, size."""
        items: list[dict[str, Any]] = self.request("GET", "/models", None, **filter)["items"]
        return items

    def download_model(self, number: int, to: Path) -> Path:
        """Fetch the file of a model, for `rutile.load`."""
        to.write_bytes(self._send("GET", f"/models/{number}/download"))
        return to

    def templates(self, **filter: Any) -> list[dict[str, Any]]:
        """A page of the templates that one may see, by name: id, name, task, settings, jobs that began with it.

        `filter`: search, task, sort, page, size. A job begins with one by
        `client.submit(one["task"], one["settings"], template_id=one["id"])`.
        """
        items: list[dict[str, Any]] = self.request("GET", "/templates", None, **filter)["items"]
        return items

    def keep_template(self, name: str, task: str, settings: dict[str, Any], privacy: str = "private") -> int:
        """Keep settings of a task under a name; its number. `privacy`: private, group or public."""
        wish = {"name": name, "task": task, "settings": settings, "privacy": privacy}
        return int(self.request("POST", "/templates", wish)["id"])

    def delete_template(self, number: int) -> None:
        """Remove a template; jobs that began with it stay as they are."""
        self.request("DELETE", f"/templates/{number}")

    def notebook(self, number: int) -> dict[str, Any]:
        """How one's own notebook is opened, once it is `ready`: its `link`, and the `tunnel` that is needed first."""
        found: dict[str, Any] = self.request("GET", f"/jobs/{number}/notebook")
        return found

    def share(self, kind: str, number: int, days: float = 7.0) -> str:
        """A link that shows a thing of one's own to everybody who has it, told this once.

        `kind`: job, search, dataset, model or structure.
        """
        return str(self.request("POST", "/shares", {"kind": kind, "number": number, "days": days})["link"])

    def shares(self) -> list[dict[str, Any]]:
        """One's links that have not ended, newest first: id, kind, number, name, expires, used."""
        rows: list[dict[str, Any]] = self.request("GET", "/shares")
        return rows

    def end_share(self, id: int) -> None:
        """Take a link back, by its id in the list."""
        self.request("DELETE", f"/shares/{id}")

    def storage(self, kind: str = "job", **filter: Any) -> list[dict[str, Any]]:
        """What takes space and could be removed, the largest first: reference, name, bytes.

        `kind`: job, files (those of failed jobs), version, upload; `filter`: days, most, everybody.
        """
        rows: list[dict[str, Any]] = self.request("GET", "/storage", None, kind=kind, **filter)
        return rows

    def free(self, references: Sequence[str], sure: bool = False) -> dict[str, Any]:
        """What removing these would free (bytes, freed, problems); only with `sure` they are removed, for good."""
        found: dict[str, Any] = self.request("POST", "/storage/free", {"references": list(references), "sure": sure})
        return found

    def notices(self, most: int = 50) -> list[dict[str, Any]]:
        """What one should know, newest first: id, kind (done, failed, held, news), text, job_id, read."""
        items: list[dict[str, Any]] = self.request("GET", "/account/notices", None, most=most)["items"]
        return items

    def mark_read(self, ids: Sequence[int] | None = None) -> None:
        """These notices, or all, were read."""
        self.request("POST", "/account/notices/read", {"ids": None if ids is None else list(ids)})

    def upload(self, path: str | Path) -> str:
        """Send a file; the reference by which jobs read it.

        Raises:
            FileError: there is no such file.
        """
        path = Path(path)
        if not path.is_file():
            raise FileError(f"{path}: no such file")
        size = path.stat().st_size
        upload = self.request("POST", "/uploads", {"name": path.name, "size": size})
        with path.open("rb") as file:
            while upload["received"] < size:
                file.seek(upload["received"])
                answer = self._send("PUT", f"/uploads/{upload['id']}", file.read(PIECE), {"offset": upload["received"]})
                upload = json.loads(answer)
        return f"upload:{upload['id']}"

    def _send(self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None) -> bytes:
        text = urllib.parse.urlencode(query or {}, doseq=True)
        url = f"{self.address}/api{urllib.parse.quote(path)}" + (f"?{text}" if text else "")
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}"}
        headers |= {"Content-Type": "application/octet-stream" if isinstance(body, bytes) else "application/json"}
        asked = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=self.timeout, context=self._trust) as answer:
                received: bytes = answer.read()
                return received
        except urllib.error.HTTPError as error:
            raise Refused(error.code, _told(error.read())) from None
        except (urllib.error.URLError, OSError) as error:
            raise FileError(f"{self.address}: no answer: {getattr(error, 'reason', error)}") from None


def _told(answer: bytes) -> str:
    """What the server says about a refusal."""
    try:
        return str(json.loads(answer)["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace")[:500]
