"""A soak of the queue: 2000 small jobs, and the server killed 20 times while they are submitted, started and ended.

`python benchmarks/platform_soak.py`; the result is `benchmarks/results/platform_soak.json`. Jobs go in through the REST
API; a request that got no answer is looked for by its name, as a careful client does. A job is one line added to a file
in its own folder: no line, it was lost; two lines, it ran twice. Every fifth one fails with an exit code of its own.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2 as httpx

import rutile
from rutile.core.files import write_atomically
from rutile.jobs.database import open_database
from rutile.jobs.tables import ENDED, ApiToken, User
from rutile.server.secrets import TOKEN, kept_of, new_secret

JOBS, KILLS, CORES = 2000, 20, 8
OUT = Path(__file__).parent / "results" / "platform_soak.json"
PROGRAM = """
import sys
with open("ran", "a") as file:
    file.write("x\\n")
sys.exit(int(open("settings.json").read().split("soak-")[1].split('"')[0]) % 5 == 0 and 7)
"""
SERVE = """
import sys
from rutile.cli.main import entry
from rutile.jobs import launch
launch.words_of = lambda task: [sys.executable, "-I", "-S", "-c", {program!r}]
sys.argv = ["rutile", "serve", "home={home}", "port=0", "cores={cores}", "memory=1000"]
entry()
"""
"""The real server; only what its jobs run is small."""


class Site:
    """A server that is killed and started again, and one who sends jobs to it."""

    def __init__(self, home: Path, cores: int) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.log = home, home / "server.log"
        self.code = SERVE.format(program=PROGRAM, home=home, cores=cores)
        self.secret = TOKEN + new_secret()
        database = open_database(f"sqlite:///{home}/platform.db", home)
        with database.writing() as session:
            user = User(name="soak", role="admin", created=0.0)
            session.add(user)
            session.flush()
            token = ApiToken(secret=kept_of(self.secret), user_id=user.id, name="t", created=0.0)
            token.scopes = ["read", "submit"]
            session.add(token)
        database.close()
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        environment = {**os.environ, "PYTHONPATH": str(Path(rutile.__file__).parents[1])}
        with self.log.open("w") as log:
            self.server = subprocess.Popen([sys.executable, "-c", self.code], stderr=log, env=environment)
        while "rutile is at" not in self.log.read_text():
            if self.server.poll() is not None:
                raise RuntimeError(self.log.read_text())
            time.sleep(0.05)
        address = self.log.read_text().split("rutile is at ")[1].split(",")[0]
        headers = {"Authorization": f"Bearer {self.secret}"}
        self.client = httpx.Client(base_url=f"{address}/api", headers=headers, timeout=60)

    def kill(self) -> None:
        """As the kernel does it where memory is short."""
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()
        self.client.close()
        self.start()

    def submit(self, number: int) -> bool:
        """Whether the server said that it has the job."""
        name = f"soak-{number}"
        try:
            answer = self.client.post("/jobs", json={"task": "doctor", "settings": {"folder": name}, "name": name})
        except httpx.HTTPError:
            return False
        return answer.status_code == 201

    def jobs(self) -> list[dict]:
        """Every job that the server knows."""
        out = []
        for page in range(1, 1000):
            some = self.client.get("/jobs", params={"size": 500, "page": page, "sort": "id"}).json()["items"]
            out += some
            if len(some) < 500:
                return out
        return out

    def ended(self) -> int:
        """How many have ended."""
        counts = self.client.get("/jobs", params={"size": 1}).json()["counts"]
        return sum(counts[state] for state in ENDED)


def soak(home: Path, jobs: int, kills: int, cores: int = CORES, seed: int = 0) -> dict[str, float]:
    """Submit jobs, kill the server now and then, wait until all have ended; what became of them."""
    rng = random.Random(seed)
    site = Site(home, cores)
    begin = time.perf_counter()
    when = sorted(rng.sample(range(1, jobs * 9 // 10), kills))  # the last ones end too fast to be met
    said: set[str] = set()
    waiting = list(range(jobs))
    try:
        while waiting or site.ended() < jobs:
            for number in waiting[:20]:
                if site.submit(number):
                    said.add(f"soak-{number}")
            del waiting[:20]
            if when and site.ended() >= when[0]:
                when.pop(0)
                time.sleep(rng.random())
                site.kill()
            if not waiting:
                there = {job["name"] for job in site.jobs()}
                waiting = [k for k in range(jobs) if f"soak-{k}" not in there and f"soak-{k}" not in said]
                time.sleep(0.2)
        found = site.jobs()
    finally:
        site.server.send_signal(signal.SIGTERM)
        site.server.wait()
    runs = {job["name"]: _lines(home / "jobs" / str(job["id"]) / "files" / "ran") for job in found}
    codes = {job["name"]: 7 if int(job["name"].removeprefix("soak-")) % 5 == 0 else 0 for job in found}
    return {
        "jobs": jobs, "kills": kills - len(when), "submitted_twice": len(found) - len(runs),
        "promised_and_lost": len(said - set(runs)), "never_ran": sum(n == 0 for n in runs.values()),
        "ran_twice": sum(n > 1 for n in runs.values()),
        "wrong_exit_code": sum(job["exit_code"] != codes[job["name"]] for job in found),
        "wrong_state": sum(job["state"] != ("FAIL" if codes[job["name"]] else "DONE") for job in found),
        "seconds": round(time.perf_counter() - begin, 1),
    }  # fmt: skip


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def main() -> None:
    """All of it."""
    with tempfile.TemporaryDirectory() as folder:
        result = soak(Path(folder) / "home", JOBS, KILLS) | {"cores": os.cpu_count(), "load": os.getloadavg()[1]}
    write_atomically(OUT, (json.dumps(result, indent=1) + "\n").encode())
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
