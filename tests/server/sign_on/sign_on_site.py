"""Browsers that sign in by a provider, step by step."""

from urllib.parse import parse_qsl, urlsplit

import sqlalchemy as sql
from platform_site import ok

from rutile.jobs.tables import AuditLine


def there(page, place="/"):
    """Go to the provider and sign in; the address to which it sends the browser back, as path and query."""
    began = page.get("/api/sign-on/begin", params={"place": place}, follow_redirects=False)
    assert began.status_code == 303, began.text
    return back_from(began.headers["location"], page)


def back_from(way, page):
    parts = urlsplit(way)
    assert f"{parts.scheme}://{parts.netloc}" == page.provider.issuer, way
    back = page.provider.authorize(dict(parse_qsl(parts.query)))
    assert back.startswith("http://127.0.0.1:8765/api/sign-on/back?"), back
    return back


def come(page, back):
    """Come back; why the page says that it did not go well, or where it leads."""
    answer = page.get(back, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    head, _, rest = answer.headers["location"].partition("/#")
    assert head == "http://127.0.0.1:8765"
    return rest


def browser(site, provider, name=None):
    page = site.page(name)
    page.provider = provider
    return page


def enter(site, provider, place="/"):
    """A browser that signs in, and why not."""
    page = browser(site, provider)
    return page, come(page, there(page, place))


def who(page):
    answer = page.get("/api/session")
    return answer.json()["user"] if answer.status_code == 200 else None


def told(site):
    """Why somebody was refused, from the audit log."""
    with site.platform.database.reading() as session:
        lines = session.scalars(sql.select(AuditLine).where(AuditLine.action == "failed to sign in"))
        return [line.after["why"] for line in lines]


def invited(site, provider, mail="ben@example.org"):
    ada = browser(site, provider, "ada")
    return ada, ok(ada.post("/api/admin/users", json={"name": "invited", "role": "viewer", "invited": mail}), 201)
