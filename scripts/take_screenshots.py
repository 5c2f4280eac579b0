"""Pictures of every page of the platform for docs/platform, of what `rutile demo` left.

    python scripts/take_screenshots.py demo
    python scripts/take_screenshots.py demo search jobs

starts a platform of its own with the demo's jobs, data sets, models and search, and looks at its pages in Debian's
Chromium; named pages only, where some are named.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "web"))
from page_site import CHROMIUM, serving  # noqa: E402

DOCS = Path(__file__).resolve().parents[1] / "docs" / "platform"
WIDTH, LONGEST = 1400, 1700
TELEPHONE = 400
LARGEST = 120_000
"""Bytes of a picture."""
NUMBERS = {"training": "jobs?task=train", "adaptive": "searches", "data": "datasets", "model": "models"}
"""What the addresses name -> the list of the API whose oldest is meant."""
PAGES = {
    "home": "/", "tasks": "/new", "form": "/new/search", "jobs": "/jobs", "job": "/jobs/{training}",
    "job-files": "/jobs/{training}?tab=files", "job-performance": "/jobs/{running}?tab=performance",
    "job-inputs": "/jobs/{training}?tab=inputs", "job-log": "/jobs/{running}?tab=log",
    "job-provenance": "/jobs/{training}?tab=provenance", "compare": "/compare?ids={training}&ids={adaptive}",
    "compare-models": "/compare?of=models&ids={model}&ids={learned}", "structures": "/structures", "structure": "/structures/{structure}",
    "datasets": "/datasets", "dataset": "/datasets/{data}", "models": "/models", "model": "/models/{model}",
    "searches": "/searches", "search": "/searches/{adaptive}", "compute": "/compute", "admin": "/admin?tab=users",
    "health": "/admin?tab=health", "account": "/account", "api": "/api",
}  # fmt: skip
DARK = ("search", "job")
SMALL = ("jobs", "model")


def main(demo: str, *wanted: str) -> None:
    """Take them all."""
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        serving(Path(folder), f"adopt=[{demo}]") as (address, link),
    ):
        browser = playwright.chromium.launch(**CHROMIUM)
        page = browser.new_page(viewport={"width": WIDTH, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(link)
        page.locator("main h1").wait_for()
        take_all(page, address, wanted)
        browser.close()


def take_all(page: Page, address: str, wanted: tuple[str, ...]) -> None:
    """Every page, some in dark, some on a telephone."""
    word = {"X-CSRF-Token": page.request.get(f"{address}/api/session").json()["csrf"]}

    def post(what: str, body: object) -> int:
        return int(page.request.post(f"{address}/api/{what}", data=body, headers=word).json()["id"])

    lists = {name: page.request.get(f"{address}/api/{what}").json()["items"] for name, what in NUMBERS.items()}
    known = {name: items[-1].get("id") or items[-1]["job"]["id"] for name, items in lists.items()}
    known["learned"] = lists["model"][0]["id"]
    copper = "4\nLattice='3.6 0 0 0 3.6 0 0 0 3.6'\nCu 0 0 0\nCu 0 1.8 1.8\nCu 1.8 0 1.8\nCu 1.8 1.8 0\n"
    known["structure"] = post("structures", {"name": "copper", "text": copper.replace("'", '"')})
    wish = {"model": "emt", "formula": "Cu-Au", "relaxations": 10_000}
    known["running"] = post("jobs", {"task": "search", "name": "copper and gold", "settings": wish})
    page.wait_for_timeout(15_000)
    for name, way in PAGES.items():
        if wanted and name not in wanted:
            continue
        path = way.format_map(known)
        take(page, f"{address}/#{path}", name)
        if name in DARK:
            page.emulate_media(color_scheme="dark")
            take(page, f"{address}/#{path}", f"{name}-dark")
            page.emulate_media(color_scheme="light")
        if name in SMALL:
            page.set_viewport_size({"width": TELEPHONE, "height": 900})
            take(page, f"{address}/#{path}", f"{name}-telephone")
            page.set_viewport_size({"width": WIDTH, "height": 900})
    page.request.post(f"{address}/api/jobs/{known['running']}/cancel", headers=word)
    if wanted:
        return
    page.goto(f"{address}/#/account")
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.get_by_role("button", name="Sign in").wait_for()
    keep(page, "sign-in")


def take(page: Page, address: str, name: str) -> None:
    """One page, when it has what it asked for."""
    page.goto(address)
    page.locator("main h1").first.wait_for()
    page.get_by_text("One moment").first.wait_for(state="detached")
    page.wait_for_timeout(2500)
    page.locator(".blank").first.wait_for(state="detached")
    page.get_by_text("is being loaded").first.wait_for(state="detached")
    keep(page, name)


def keep(page: Page, name: str) -> None:
    """Write a picture as small as it must be."""
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    picture = picture.crop((0, 0, picture.width, min(picture.height, LONGEST)))
    for quality in (80, 65, 50, 35):
        data = io.BytesIO()
        picture.save(data, "webp", quality=quality, method=6)
        if data.tell() <= LARGEST:
            break
    (DOCS / f"{name}.webp").write_bytes(data.getvalue())
    print(f"{name}.webp  {data.tell() / 1000:.0f} kB")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
