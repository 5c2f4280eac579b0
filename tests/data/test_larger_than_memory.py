"""A store several times larger than a memory limit that the process sets on itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux only")
def test_build_read_and_train_within_the_limit(tmp_path):
    script = Path(__file__).with_name("larger_than_memory.py")
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    out = json.loads(run.stdout)
    assert out["store"] > 3 * out["limit"]
    assert out["half_and_more_than_the_room_refused"] == [False, True]
    assert out["whole_store_is_refused"]
    assert out["visited"] == out["frames"]
    assert out["read"] == pytest.approx(out["written"], rel=1e-9)
    assert out["references"] == pytest.approx([8, 22], abs=0.01)
    assert 0 < out["energy_std"] < 0.01
    assert out["steps"] == 13
    assert len(out["cache_files"]) == 4
