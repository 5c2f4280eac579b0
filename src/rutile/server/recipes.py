"""Small programs that use the platform, for the page of the API; a test runs each against a server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """A program, whole as it stands: address and token come from RUTILE_ADDRESS and RUTILE_TOKEN."""

    name: str
    """What it does: the page has its title in each language."""
    code: str
    """Python."""


RELAX = """from pathlib import Path

import rutile

client = rutile.Client()
crystals = client.upload("crystals.extxyz")
job = client.submit("relax", {"structures": [crystals], "model": "emt", "cell": "full"}, name="crystals")
done = client.wait(job)
print(done["state"], done["reason"])
print(done["result"])
client.download(job, "relaxed.extxyz", Path("relaxed.extxyz"))
"""

TRAIN = """import time
from pathlib import Path

import rutile

client = rutile.Client()
labelled = client.upload("labelled.extxyz")
data = client.request("POST", "/datasets", {"name": "labelled", "file": labelled})
while client.request("GET", f"/datasets/{data['id']}")["versions"][-1]["state"] == "reading":
    time.sleep(1)

job = client.submit("train", {"data": [f"dataset:{data['id']}"], "epochs": 3}, name="first try", wall_time=3600)
done = client.wait(job)
print(done["result"])
curves = client.request("GET", f"/jobs/{done['id']}/metrics")
print(list(curves["columns"]))

model = next(model for model in client.models() if model["job_id"] == job)
client.download_model(model["id"], Path("model.rutile"))
"""

SCAN = """import rutile

client = rutile.Client()
crystals = client.upload("crystals.extxyz")
forces = [0.1, 0.03, 0.01]
relax = {"structures": [crystals], "model": "emt"}
jobs = [client.submit("relax", relax | {"fmax": fmax}, name=f"fmax {fmax:g}", tags=["scan"]) for fmax in forces]
for fmax, job in zip(forces, jobs, strict=True):
    done = client.wait(job)
    print(fmax, done["state"], done["ran"], "s")
print(len(client.every_job(tag="scan", state="DONE")))
"""

FAILED = """import rutile

client = rutile.Client()
for job in client.every_job(state="FAIL"):
    why = client.request("GET", f"/jobs/{job['id']}/failure")
    print(job["id"], job["name"], why["line"], why["cause"])
    for remedy in why["remedies"]:
        print("   ", remedy["name"], remedy["shown"])
    errors = client.request("GET", f"/jobs/{job['id']}/log/search", level="error", last=True, most=5)
    print([hit["text"] for hit in errors["hits"]])
"""

RECIPES = (Recipe("relax", RELAX), Recipe("train", TRAIN), Recipe("scan", SCAN), Recipe("failed", FAILED))
"""In the order in which they are shown."""
