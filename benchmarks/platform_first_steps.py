"""The guided examples of the home page, one after the other, by mouse in a real browser.

`python benchmarks/platform_first_steps.py`; the result is `benchmarks/results/platform_first_steps.json`. Seconds of
each example: from the click on "Submit" until the page shows DONE, what its job took of that, and its processor time.
The server has two cores and nothing on it. Needs Debian's Chromium and the packages of the tests.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

import rutile
from rutile.core.files import write_atomically

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "web"))
from page_site import CHROMIUM, Site, serving, signed_in

OUT = Path(__file__).parent / "results" / "platform_first_steps.json"
EXAMPLES = ("Take labelled silicon", "Train a potential", "See how good it is", "Build crystals", "Relax them")
LIMIT = 60.0
"""Seconds that none may take."""


def step(site: Site, title: str) -> dict[str, float]:
    """Do one example with the settings that its form comes with."""
    site.open("/")
    site.tab.get_by_role("link", name=f"Start: {title}").click()
    site.tab.get_by_text("Ready to submit.").wait_for()
    begin = time.perf_counter()
    site.tab.get_by_role("button", name="Submit").click()
    number = site.job(seconds=600)
    seconds = time.perf_counter() - begin
    job = site.get(f"jobs/{number}")
    return {"seconds": seconds, "job (s)": job["ran"], "processor (s)": job["cpu_seconds"]}


def main() -> None:
    """Do them all and store what they took."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright, serving(Path(folder)) as told:
        browser = playwright.chromium.launch(**CHROMIUM)
        with signed_in(told, browser) as site:
            took = {title: step(site, title) for title in EXAMPLES}
        browser.close()
    worst = max(one["seconds"] for one in took.values())
    result = {"version": rutile.__version__, "cores": os.cpu_count(), "limit (s)": LIMIT, "worst (s)": worst} | took
    write_atomically(OUT, (json.dumps(result, indent=1) + "\n").encode())
    print(json.dumps(result, indent=1))
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
