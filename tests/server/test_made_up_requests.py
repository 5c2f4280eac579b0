"""No made-up request is answered with 500 (schemathesis, where it is installed)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from fuzz_api import findings  # noqa: E402


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_request_is_answered_with_500():
    if not (os.environ.get("SCHEMATHESIS") or shutil.which("schemathesis")):
        pytest.skip("schemathesis is not installed")
    words = [sys.executable, SCRIPTS / "fuzz_api.py", "2"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_what_was_not_answered_and_what_was_not_tried_is_found():
    lines = [
        "> GET '/api/jobs', after 0.1 s of rest",
        "< 200 GET /api/jobs, within 0.1 s",
        "> GET '/api/jobs/1', after 5.0 s of rest",
        "> PUT '/api/x', after 0.1 s of rest",
        "< 403 PUT /api/x, within 0.1 s",
        "< 403 GET /api/jobs, within 0.1 s",
        "> GET '/api/end', after 0.2 s of rest",
    ]
    assert findings(lines) == [
        "no answer: GET '/api/jobs/1', after 5.0 s of rest",
        "no answer: GET '/api/end', after 0.2 s of rest",
        "only refused: PUT /api/x",
    ]
