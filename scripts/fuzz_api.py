"""Ask every route of the platform with made-up requests; an answer of 500 or more is a bug.

`python scripts/fuzz_api.py [EXAMPLES]` needs schemathesis (`pip install schemathesis`, best into an environment of its
own: SCHEMATHESIS=/path/to/schemathesis). It starts a platform in a temporary folder with one of everything, whose
administrator asks; its exit code is that of schemathesis.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import uvicorn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "server"))
from platform_site import make_site  # noqa: E402
from test_everybody_apart import fill  # noqa: E402

from rutile.jobs.tables import ApiToken, User  # noqa: E402
from rutile.server.secrets import TOKEN, kept_of, new_secret  # noqa: E402
from rutile.server.serve import listening  # noqa: E402
from rutile.server.settings import ServeSettings  # noqa: E402

PROGRAM = os.environ.get("SCHEMATHESIS") or shutil.which("schemathesis")
WORDS = ["--checks=not_a_server_error", "--phases=coverage,fuzzing", "--continue-on-failure", "--request-timeout=20",
         "--suppress-health-check=all", "--no-color"]  # fmt: skip


def main(examples: int) -> int:
    """Serve, ask; the exit code."""
    if PROGRAM is None:
        print("no schemathesis here: pip install schemathesis, or SCHEMATHESIS=/path/to/it")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        site = make_site(Path(folder) / "home")
        fill(site)
        secret = TOKEN + new_secret()
        with site.platform.database.writing() as session:
            ada = next(u for u in session.query(User) if u.name == "ada")
            row = ApiToken(secret=kept_of(secret), user_id=ada.id, name="t", created=time.time())
            row.scopes = ["read", "submit", "admin"]
            session.add(row)
        description = Path(folder) / "openapi.json"
        description.write_text(json.dumps(site.app.openapi()))
        socket = listening(ServeSettings(port=0))
        server = uvicorn.Server(uvicorn.Config(site.app, log_level="error"))
        thread = threading.Thread(target=server.run, args=([socket],), daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{socket.getsockname()[1]}"
        words = [PROGRAM, "run", str(description), "-u", address, "-H", f"Authorization: Bearer {secret}", *WORDS]
        code = subprocess.run([*words, "-n", str(examples)], check=False).returncode
        server.should_exit = True
        thread.join(timeout=30)
    return code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 25))
