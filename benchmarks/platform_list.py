"""How fast the list of 100 000 jobs answers: 20 clients at once, through a real server.

`python benchmarks/platform_list.py`; the result is `benchmarks/results/platform_list.json`. Half of the requests are
for the newest page, others filter, sort or search.
"""

import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import rutile
from rutile.jobs.database import open_database
from rutile.jobs.tables import DONE, FAIL, QUEUED, ApiToken, Job, User
from rutile.server.secrets import TOKEN, kept_of, new_secret

JOBS, CLIENTS, REQUESTS, USERS = 100_000, 20, 40, 20
QUERIES = [
    "", "", "", "", "", "?page=500&size=25", "?state=FAIL&size=25", "?sort=-created&task=relax", "?search=17",
    "?sort=name&size=10",
]  # fmt: skip
OUT = Path(__file__).parent / "results" / "platform_list.json"


def settings_of(rng: random.Random) -> dict[str, object]:
    """What a job is usually asked: half a kilobyte."""
    structures = [f"structure:{rng.randrange(1000)}" for _ in range(10)]
    folders = {f"folder_{k}": f"results-{rng.randrange(10**6)}/{k}" for k in range(8)}
    return {"structures": structures, "model": f"model:{rng.randrange(100)}", "fmax": rng.random(), "out": folders}


def fill(home: Path) -> dict[str, str]:
    """Users with tokens, and their jobs; token of an administrator and of a user."""
    database = open_database(f"sqlite:///{home}/platform.db", home)
    rng = random.Random(0)
    secrets = {}
    with database.writing() as session:
        for k in range(USERS):
            user = User(name=f"user{k}", role="admin" if k == 0 else "user", created=0.0)
            session.add(user)
            session.flush()
            secrets[user.name] = TOKEN + new_secret()
            session.add(
                ApiToken(secret=kept_of(secrets[user.name]), user_id=user.id, name="t", scopes=["read"], created=0.0)
            )
        rows = [
            {
                "name": f"job {rng.randrange(1000)}", "task": rng.choice(["relax", "train", "md"]),
                "settings": settings_of(rng),
                "key": str(k), "owner_id": 1 + rng.randrange(USERS), "privacy": rng.choice(["private", "public"]),
                "state": QUEUED if k > JOBS - 20 else rng.choice([DONE, DONE, DONE, FAIL]), "created": float(k),
                "started": k + 1.0, "ended": k + 100.0, "cores": 64 if k > JOBS - 20 else 1, "tags": [],
            }
            for k in range(JOBS)
        ]  # fmt: skip
        session.bulk_insert_mappings(Job, rows)
    database.close()
    return {"administrator": secrets["user0"], "user": secrets["user1"]}


def measure(address: str, token: str) -> dict[str, float]:
    """Seconds of each request of all clients, as percentiles (ms)."""
    seconds: list[float] = []
    lock = threading.Lock()

    def client(number: int) -> None:
        rng = random.Random(number)
        server = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
        for _ in range(REQUESTS):
            begin = time.perf_counter()
            server.request("GET", f"/api/jobs{rng.choice(QUERIES)}", headers={"Authorization": f"Bearer {token}"})
            answer = server.getresponse().read()
            with lock:
                seconds.append(time.perf_counter() - begin)
            assert json.loads(answer)["total"] > 0
        server.close()

    threads = [threading.Thread(target=client, args=(k,)) for k in range(CLIENTS)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - begin
    found = {f"p{p}_ms": float(np.percentile(seconds, p)) * 1000 for p in (50, 95, 99)}
    return found | {"requests_per_second": len(seconds) / wall, "requests": len(seconds)}


def main() -> None:
    """Fill, serve, measure."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        tokens = fill(home)
        source = str(Path(rutile.__file__).parents[1])
        log = home / "log"
        with log.open("w") as file:
            server = subprocess.Popen(
                [sys.executable, "-m", "rutile", "serve", f"home={home}", "port=0", "cores=1"], stderr=file,
                env={**os.environ, "PYTHONPATH": source},
            )  # fmt: skip
        try:
            while "rutile is at" not in log.read_text():
                time.sleep(0.2)
            address = log.read_text().split("rutile is at ")[1].split(",")[0]
            measure(address, tokens["user"])
            result = {name: measure(address, token) for name, token in tokens.items()}
        finally:
            server.terminate()
            server.wait()
    result |= {"jobs": JOBS, "clients": CLIENTS, "cores": os.cpu_count(), "load_before": os.getloadavg()[1]}
    OUT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
