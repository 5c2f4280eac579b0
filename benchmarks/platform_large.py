"""Large things on the platform: a data set of 1e6 frames, a log of 1 GB, a metric of 1e6 points.

`python benchmarks/platform_large.py`; the result is `benchmarks/results/platform_large.json`. Seconds of requests to
the application, without the network; the first request of each kind, then the median of five more.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient

from rutile.core.files import write_atomically
from rutile.jobs import folder as kept
from rutile.jobs.shelf import Picture, write_shelf
from rutile.jobs.tables import DONE, ApiToken, Dataset, DatasetVersion, Job, User
from rutile.server.app import create_app
from rutile.server.librarian import SHELF, summary_of
from rutile.server.platform import Platform
from rutile.server.secrets import TOKEN, kept_of, new_secret
from rutile.server.settings import ServeSettings

FRAMES, POINTS, LOG = 1_000_000, 1_000_000, 10**9
OUT = Path(__file__).parent / "results" / "platform_large.json"
GROWS = "metric with a new row"
ASKED = {
    "data set opens": "/api/datasets/1",
    "its histogram": "/api/datasets/1/histogram?of=energy_per_atom",
    "points with a filter": "/api/datasets/1/points?x=energy_per_atom&y=fmax&elements=Ti&column=fmax&low=1",
    "its last frame": "/api/datasets/1/frames/{last}",
    "its table, sorted": "/api/datasets/1/table?sort=fmax&down=true",
    "log, from its end": "/api/jobs/1/log?offset=-64000",
    "log, in its middle": "/api/jobs/1/log?offset={middle}",
    "log, searched to its end": "/api/jobs/1/log/search?text=needle",
    "metric": "/api/jobs/1/metrics?points=1000",
    GROWS: "/api/jobs/1/metrics?points=1000",
}


def fill(platform: Platform, frames: int, points: int, log: int) -> str:
    """A user with a data set and a job; the secret of a token."""
    from rutile.jobs.shelf import Shelf

    rng = np.random.default_rng(0)
    kinds = [np.array([22, 8, 8]), np.array([22, 22, 8]), np.array([8, 8])]
    box, pbc = 4.0 * np.eye(3), np.ones(3, bool)

    def picture(k: int) -> Picture:
        numbers = kinds[k % 3]
        noise = rng.normal(size=(2, len(numbers), 3))
        return Picture(numbers, noise[0], box, pbc, float(k % 1000), noise[1])

    folder = platform.home.dataset("0" * 64)
    folder.mkdir()
    write_shelf((picture(k) for k in range(frames)), folder / SHELF)
    secret = TOKEN + new_secret()
    with platform.database.writing() as session:
        user = User(name="one", role="user", created=0.0)
        session.add(user)
        session.flush()
        session.add(ApiToken(secret=kept_of(secret), user_id=user.id, name="t", scopes=["read"], created=0.0))
        session.add(Dataset(id=1, name="large", owner_id=user.id, created=0.0))
        session.flush()
        summary = summary_of(Shelf(folder / SHELF))
        session.add(DatasetVersion(dataset_id=1, number=1, sha256="0" * 64, file="x.extxyz", format=".extxyz",
                                   created=0.0, state="ready", frames=frames, summary=summary))  # fmt: skip
        session.add(Job(id=1, name="long", task="train", settings={}, key="k", owner_id=user.id, state=DONE,
                        created=0.0))  # fmt: skip
    place = platform.home.job(1)
    place.mkdir()
    with (place / kept.METRICS).open("w") as file:
        file.writelines(f'{{"step":{k},"loss":{{"energy":{1 / (k + 1):.6g}}}}}\n' for k in range(points))
    line = b"step 1234567 energy -1.234567 force 0.123456\n"
    block = line * (10_000_000 // len(line))
    with (place / kept.LOG).open("wb") as file:
        while file.tell() < log:
            file.write(block)
        file.write(b"the needle\n")
    return secret


def main() -> None:
    """Fill, ask."""
    sizes = (FRAMES, POINTS, LOG) if len(sys.argv) == 1 else (1000, 1000, 10**6)
    result: dict[str, object] = {"frames": sizes[0], "points": sizes[1], "bytes_of_log": sizes[2]}
    with tempfile.TemporaryDirectory() as folder:
        platform = Platform.open(ServeSettings(home=Path(folder) / "home", cores=1))
        secret = fill(platform, *sizes)
        page = TestClient(create_app(platform), base_url="http://127.0.0.1:8765")
        for name, url in ASKED.items():
            seconds = []
            for _ in range(6):
                if name == GROWS:
                    with (platform.home.job(1) / kept.METRICS).open("a") as file:
                        file.write('{"epoch": 1}\n')
                begin = time.perf_counter()
                asked = url.format(last=sizes[0] - 1, middle=sizes[2] // 2)
                answer = page.get(asked, headers={"Authorization": f"Bearer {secret}"})
                seconds.append(time.perf_counter() - begin)
                assert answer.status_code == 200, answer.text
            again = statistics.median(seconds[1:])
            result[name] = {"first": round(seconds[0], 4), "again": round(again, 4), "bytes": len(answer.content)}
        platform.close()
    result |= {"cores": os.cpu_count(), "load": os.getloadavg()[1]}
    if len(sys.argv) == 1:
        write_atomically(OUT, (json.dumps(result, indent=1) + "\n").encode())
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
