"""What users are told: once, on the page, by mail and by webhook; webhooks reach nothing of our own networks."""

import http.server
import json
import socketserver
import threading

import pytest
import sqlalchemy as sql
from platform_site import make_site, ok

from rutile.core.errors import FileError, SettingsError
from rutile.jobs.tables import Job, Notice, Sending
from rutile.server import messenger, webhook
from rutile.server.settings import MailSettings

pytestmark = pytest.mark.databases


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        code = self.server.codes.pop(0) if self.server.codes else 200
        if code:
            self.send_response(code)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
            self.end_headers()

    def log_message(self, *words):
        pass


class Post(socketserver.StreamRequestHandler):
    """As much of SMTP as a sender needs."""

    def handle(self):
        say = lambda line: self.wfile.write(line + b"\r\n")  # noqa: E731
        say(b"220 sink")
        while line := self.rfile.readline().strip():
            word = line[:4].upper()
            if word == b"DATA":
                say(b"354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.got.append(b"".join(lines).decode())
            code = self.server.codes.pop(0) if word == b"MAIL" and self.server.codes else b"250 ok"
            say(b"221 bye" if word == b"QUIT" else code)
            if word == b"QUIT":
                return


def served(server):
    server.got, server.codes = [], []
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def hook():
    yield from served(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook))


@pytest.fixture
def post():
    yield from served(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Post))


@pytest.fixture
def site(tmp_path, database_url, post):
    mail = MailSettings(host="127.0.0.1", port=post.server_address[1], sender="r@example.org", encryption="none")
    site = make_site(tmp_path / "home", database=database_url, mail=mail, webhooks_inside=True)
    yield site
    site.platform.close()


def ended(site, page, state="DONE", reason=""):
    """A job that ends as the reconciler sees it end."""
    number = ok(page.post("/api/jobs", json={"task": "doctor", "name": "try"}), 201)["id"]
    with site.platform.database.writing() as session:
        session.get_one(Job, number).state = "STARTING"
    site.platform.reconciler._close(number, state, reason, None)
    site.platform.reconciler._close(number, state, reason, None)
    return number


def due_now(site):
    with site.platform.database.writing() as session:
        session.execute(sql.update(Sending).values(due=0.0))
    site.platform.messenger.round()


def sendings(site):
    with site.platform.database.reading() as session:
        return [(row.way, row.state, row.tries) for row in session.scalars(sql.select(Sending).order_by(Sending.id))]


@pytest.mark.slow
def test_ends_of_jobs_quotas_and_announcements_are_told_once(site, ben, eve, ada):
    done, failed = ended(site, ben), ended(site, ben, "FAIL", "no such element")
    users = {u["name"]: u["id"] for u in ok(ada.get("/api/admin/users"))}
    ok(ada.patch(f"/api/admin/users/{users['ben']}", json={"core_hours": 0.0}))
    held = ok(ben.post("/api/jobs", json={"task": "doctor"}), 201)["id"]
    site.platform.reconciler.round()
    site.platform.reconciler.round()
    ok(ada.post("/api/admin/announcements", json={"text": "rest on Friday"}), 201)
    page = ok(ben.get("/api/account/notices"))
    told = [(one["kind"], one["job_id"]) for one in page["items"]]
    assert told == [("news", None), ("held", held), ("failed", failed), ("done", done)]
    assert page["items"][2]["text"] == f"Job {failed} (try) failed: no such element"
    assert page["unread"] == 4
    ok(ben.post("/api/account/notices/read", json={"ids": [page["items"][0]["id"]]}), 204)
    assert ok(ben.get("/api/account/notices"))["unread"] == 3
    ok(ben.post("/api/account/notices/read", json={}), 204)
    assert ok(ben.get("/api/account/notices"))["unread"] == 0
    assert [one["kind"] for one in ok(eve.get("/api/account/notices"))["items"]] == ["news"]


def test_a_job_that_a_quota_holds_later_is_told_once(site, ben, ada):
    number = ok(ben.post("/api/jobs", json={"task": "doctor", "cores": 2}), 201)["id"]
    users = {u["name"]: u["id"] for u in ok(ada.get("/api/admin/users"))}
    ok(ada.patch(f"/api/admin/users/{users['ben']}", json={"core_hours": 0.0}))
    for _ in range(3):
        site.platform.reconciler.round()
    assert [(one["kind"], one["job_id"]) for one in ok(ben.get("/api/account/notices"))["items"]] == [("held", number)]


def test_nobody_reads_or_marks_notices_of_others(site, ben, eve):
    ended(site, ben)
    (notice,) = ok(ben.get("/api/account/notices"))["items"]
    ok(eve.post("/api/account/notices/read", json={"ids": [notice["id"]]}), 204)
    assert ok(ben.get("/api/account/notices"))["unread"] == 1


def choose(page, **wish):
    return ok(page.put("/api/account/notices/choices", json=wish))


def test_mail_says_what_happened_and_is_sent_once(site, ben, post):
    choose(ben, mail="ben@example.org", mail_kinds=["failed"])
    ended(site, ben)
    number = ended(site, ben, "FAIL", "no memory")
    for _ in range(3):
        due_now(site)
    (message,) = post.got
    assert "To: ben@example.org" in message
    assert f"Job {number} (try) failed: no memory" in message
    assert sendings(site) == [("mail", "sent", 1)]


def test_mail_that_is_refused_is_tried_again_later(site, ben, post):
    post.codes = [b"451 not now"]
    choose(ben, mail="ben@example.org", mail_kinds=["done"])
    ended(site, ben)
    site.platform.messenger.round()
    site.platform.messenger.round()
    assert (post.got, sendings(site)) == ([], [("mail", "waits", 1)])
    due_now(site)
    assert (len(post.got), sendings(site)) == (1, [("mail", "sent", 2)])


def test_a_webhook_gets_a_signed_message_once(site, ben, hook):
    url = f"http://127.0.0.1:{hook.server_address[1]}/hooks?x=1"
    secret = choose(ben, webhook=url, webhook_kinds=["done", "news"])["secret"]
    number = ended(site, ben)
    due_now(site)
    due_now(site)
    ((path, headers, body),) = hook.got
    assert path == "/hooks?x=1"
    assert headers[webhook.SIGNATURE] == webhook.signature(secret, body)
    assert headers[webhook.SIGNATURE] != webhook.signature("other", body)
    told = json.loads(body)
    assert (told["kind"], told["job"], told["link"]) == ("done", number, f"/#/jobs/{number}")


def test_a_webhook_that_redirects_or_fails_is_not_followed_and_tried_again(site, ben, hook):
    hook.codes = [302, 500]
    choose(ben, webhook=f"http://127.0.0.1:{hook.server_address[1]}/", webhook_kinds=["done"])
    ended(site, ben)
    for tries, state in ((1, "waits"), (2, "waits"), (3, "sent")):
        due_now(site)
        assert sendings(site) == [("webhook", state, tries)]
    assert [path for path, _, _ in hook.got] == ["/", "/", "/"]


def test_a_message_that_may_have_arrived_is_not_sent_again(site, ben, hook):
    """Nobody answers; the server is killed while it sends."""
    hook.codes = [0]
    choose(ben, webhook=f"http://127.0.0.1:{hook.server_address[1]}/", webhook_kinds=["done"])
    ended(site, ben)
    due_now(site)
    due_now(site)
    assert (len(hook.got), sendings(site)) == (1, [("webhook", "failed", 1)])
    ended(site, ben)
    with site.platform.database.reading() as session:
        last = session.scalars(sql.select(sql.func.max(Sending.id))).one()
    assert site.platform.messenger._mine(last)
    assert not site.platform.messenger._mine(last)
    due_now(site)
    assert len(hook.got) == 1


def test_a_webhook_that_hangs_keeps_others_waiting_once_in_a_round(site, ben, eve, hook, monkeypatch):
    monkeypatch.setattr(messenger, "LONG", -1.0)  # everything takes long
    for page in (ben, eve):
        choose(page, webhook=f"http://127.0.0.1:{hook.server_address[1]}/", webhook_kinds=["done"])
    for page in (ben, ben, eve):
        ended(site, page)
    due_now(site)
    assert [state for _, state, _ in sendings(site)] == ["sent", "waits", "sent"]
    due_now(site)
    assert [state for _, state, _ in sendings(site)] == ["sent", "sent", "sent"]


def test_who_is_told_nothing_is_told_why(site, ben, hook):
    """The server of a webhook is away, answers with an error, and is there again."""
    away = f"http://127.0.0.1:{hook.server_address[1]}/"
    hook.codes = [500]
    assert choose(ben, webhook=away, webhook_kinds=["done"])["trouble"] == []
    ended(site, ben)
    due_now(site)
    asked = lambda: ok(ben.get("/api/account/notices/choices"))["trouble"]  # noqa: E731
    assert asked() == ["webhook: 127.0.0.1 answered 500; redirects are not followed"]
    due_now(site)
    assert asked() == []
    choose(ben, webhook="http://127.0.0.1:9/", webhook_kinds=["done"])
    ended(site, ben)
    due_now(site)
    (line,) = asked()
    assert line.startswith("webhook: 127.0.0.1 cannot be reached")
    assert choose(ben)["trouble"] == []


def test_what_never_arrives_is_given_up(site, ben, monkeypatch):
    monkeypatch.setattr(messenger, "AGAIN", (0.0, 0.0))
    choose(ben, webhook="http://127.0.0.1:9/", webhook_kinds=["done"])
    ended(site, ben)
    for _ in range(5):
        due_now(site)
    assert sendings(site) == [("webhook", "failed", 3)]


@pytest.mark.parametrize("host", [
    "127.0.0.1", "localhost", "[::1]", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0",
    "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1]", "[2002:7f00:1::]", "2130706433", "224.0.0.1",
])  # fmt: skip
def test_webhooks_reach_nothing_of_our_own_networks(tmp_path, database_url, host, hook):
    url = f"http://{host}:{hook.server_address[1]}/"
    with pytest.raises(FileError, match=r"private network|no host"):
        webhook.post(url, b"{}", "secret", "1", inside=False)
    assert hook.got == []


@pytest.mark.parametrize("url", [
    "ftp://example.org/", "file:///etc/passwd", "http://a:b@example.org/", "http:///x", "http://example.org/\r\nX: 1",
    "http://example.org:99999/", "example.org",
])  # fmt: skip
def test_addresses_that_are_none_are_refused(url):
    with pytest.raises(SettingsError, match="webhook = "):
        webhook.checked(url)


def test_the_page_refuses_private_webhooks_and_mail_that_is_not_there(tmp_path):
    site = make_site(tmp_path / "home")
    ben = site.page("ben")
    answer = ben.put("/api/account/notices/choices", json={"webhook": "http://127.0.0.1:1/", "webhook_kinds": ["done"]})
    assert (answer.status_code, "private network" in answer.text) == (422, True)
    answer = ben.put("/api/account/notices/choices", json={"mail": "b@example.org", "mail_kinds": ["done"]})
    assert answer.status_code == 409
    site.platform.close()


def test_notices_do_not_wait_for_what_is_slow(site, ben, hook):
    """The reconciler goes on while the messenger waits for an answer."""
    choose(ben, webhook=f"http://127.0.0.1:{hook.server_address[1]}/", webhook_kinds=["done"])
    ended(site, ben)
    busy = threading.Event()
    free = threading.Event()
    real = site.platform.messenger._post
    site.platform.messenger._post = lambda *words: (busy.set(), free.wait(20), real(*words))
    thread = threading.Thread(target=site.platform.messenger.round)
    thread.start()
    assert busy.wait(20)
    ended(site, ben)
    free.set()
    thread.join()
    with site.platform.database.reading() as session:
        assert len(session.scalars(sql.select(Notice)).all()) == 2
