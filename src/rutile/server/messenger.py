"""Sends notices by mail and webhook, in a thread of its own: tried again where they failed, never sent twice."""

from __future__ import annotations

import json
import logging
import smtplib
import ssl
import threading
import time
from contextlib import suppress
from email.message import EmailMessage

import sqlalchemy as sql
from sqlalchemy.engine import CursorResult

from rutile.core.errors import FileError, RutileError
from rutile.jobs.database import Database
from rutile.jobs.tables import Notice, NoticeChoice, Sending
from rutile.server import webhook
from rutile.server.settings import MailSettings, ServeSettings

EVERY = 2.0
"""Seconds between two looks."""
LONG = 5.0
"""Seconds after which somebody's mail or webhook keeps others waiting."""
AGAIN = (30.0, 300.0, 3600.0, 6 * 3600.0)
"""Seconds until the next try, after each that failed; then it is given up."""
log = logging.getLogger("rutile.server")


class Messenger:
    """One thread."""

    def __init__(self, database: Database, settings: ServeSettings) -> None:
        self.database, self.settings = database, settings
        self.address = ""
        """Under which the page is reached."""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="messenger", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; what was not sent is sent by the next server."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            try:
                self.round()
            except Exception:  # a database that is away: the next round may do better
                log.exception("messenger")

    def round(self) -> None:
        """Send all that is due, once; where somebody's took long, the rest of theirs waits for the next round."""
        with self.database.reading() as session:
            due = sql.select(Sending.id, Notice.user_id).join(Notice, Notice.id == Sending.notice_id)
            due = due.where(Sending.state == "waits", Sending.due <= time.time())
            found = session.execute(due.order_by(Sending.id)).all()
        slow: set[int] = set()
        for number, user in found:
            if self._stop.is_set():
                return
            began = time.monotonic()
            if user not in slow and self._mine(number):
                self._send(number)
                slow |= {user} if time.monotonic() - began > LONG else set()

    def _mine(self, number: int) -> bool:
        """Take it, by compare and swap: whoever is killed from here on leaves it begun, and nobody sends it again."""
        with self.database.writing() as session:
            waits = sql.update(Sending).where(Sending.id == number, Sending.state == "waits")
            took = session.execute(waits.values(state="begun", tries=Sending.tries + 1))
            assert isinstance(took, CursorResult)
            return took.rowcount == 1

    def _send(self, number: int) -> None:
        with self.database.reading() as session:
            row = session.get_one(Sending, number)
            notice = session.get_one(Notice, row.notice_id)
            choice = session.get(NoticeChoice, notice.user_id)
        place = "" if choice is None else choice.mail if row.way == "mail" else choice.webhook
        if choice is None or not place:
            self._note(number, len(AGAIN) + 1, "nobody wants it any more")
            return
        try:
            if row.way == "mail":
                self._mail(place, notice)
            else:
                self._post(choice, notice, number)
        except webhook.UnsureError as problem:
            self._note(number, len(AGAIN) + 1, str(problem))
        except (RutileError, OSError, ValueError) as problem:
            self._note(number, row.tries, str(problem))
        else:
            self._note(number, row.tries, "")

    def _note(self, number: int, tries: int, error: str) -> None:
        """What became of it."""
        with self.database.writing() as session:
            row = session.get(Sending, number)
            if row is None:
                return
            row.error = error[:500]
            if not error:
                row.state = "sent"
            elif tries > len(AGAIN):
                row.state = "failed"
            else:
                row.state, row.due = "waits", time.time() + AGAIN[tries - 1]

    def _link(self, notice: Notice) -> str:
        return f"{self.address}/#/jobs/{notice.job_id}" if notice.job_id else self.address

    def _post(self, choice: NoticeChoice, notice: Notice, number: int) -> None:
        told = {
            "kind": notice.kind, "text": notice.text, "job": notice.job_id, "time": notice.created,
            "link": self._link(notice), "delivery": number,
        }  # fmt: skip
        body = json.dumps(told).encode()
        webhook.post(choice.webhook, body, choice.secret, str(number), self.settings.webhooks_inside)

    def _mail(self, to: str, notice: Notice) -> None:
        if self.settings.mail is None:
            raise FileError("mail: this server sends none (setting mail)")
        send_mail(self.settings.mail, to, notice.text.splitlines()[0][:150], f"{notice.text}\n\n{self._link(notice)}\n")


def send_mail(settings: MailSettings, to: str, subject: str, text: str) -> None:
    """Send a message by SMTP.

    Raises:
        OSError: it was not taken (smtplib's errors are such).
        UnsureError: nobody said whether it was.
    """
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = settings.sender, to, f"rutile: {subject}"
    message.set_content(text)
    secure = ssl.create_default_context()
    if settings.encryption == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(settings.host, settings.port, timeout=20, context=secure)
    else:
        server = smtplib.SMTP(settings.host, settings.port, timeout=20)
    try:
        if settings.encryption == "starttls":
            server.starttls(context=secure)
        if settings.password_file is not None:
            server.login(settings.user, settings.password_file.expanduser().read_text(encoding="utf-8").strip())
        _handed_over(server, message)
    finally:
        server.close()


def _handed_over(server: smtplib.SMTP, message: EmailMessage) -> None:
    try:
        server.send_message(message)
    except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused):
        raise
    except OSError as error:
        raise webhook.UnsureError(f"mail: the server did not answer: {error}") from None
    with suppress(OSError):
        server.quit()
