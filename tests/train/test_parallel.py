"""Two processes train as one does, and neither waits for the other in vain."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import run_ranks
import torch
from toy import ToyDescriptors

import rutile
from rutile.train.checkpoint import CHECKPOINT_FILE, read_checkpoint
from rutile.train.parallel import Alone, Said, or_problem

CASES = (
    "adam",
    "lbfgs",
    "edges",
    "memory",
    "pretend",
    "patience",
    "time",
    "signal",
    "unreadable",
    "nan",
    "bug",
    "lost",
)


def two_ranks(command):
    """Run a command as two ranks; their exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(rutile.__file__).parents[1]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
    }
    processes = [subprocess.Popen(command, env=base | {"RANK": str(rank)}) for rank in range(2)]
    try:
        return [p.wait(timeout=300) for p in processes]
    finally:
        for p in processes:
            p.kill()


@pytest.fixture(scope="module")
def together(store, tmp_path_factory):
    """Folder with the runs of all cases, and what the two ranks said."""
    folder = tmp_path_factory.mktemp("ranks")
    codes = two_ranks([sys.executable, run_ranks.__file__, str(store.folder), str(folder), *CASES])
    assert codes == [0, 9]
    return folder, [json.loads((folder / f"said-{rank}.json").read_text()) for rank in range(2)]


def weights(folder):
    return torch.cat([w.reshape(-1) for w in read_checkpoint(folder / CHECKPOINT_FILE)["potential"].values()])


@pytest.fixture(scope="module")
def alone(store, tmp_path_factory):
    """Weights of one process, by case."""
    out = {}
    for case in ("adam", "lbfgs", "edges"):
        folder = tmp_path_factory.mktemp(case)
        result = run_ranks.train(store, folder, case)
        out[case] = weights(folder), [row["valid_loss"] for row in result.history]
    return out


@pytest.mark.slow
@pytest.mark.parametrize("case", ["adam", "lbfgs", "edges", "pretend"])
def test_two_processes_take_the_steps_of_one(together, alone, case):
    folder, said = together
    assert said[0][case] == said[1][case]
    expected, losses = alone["adam" if case == "pretend" else case]
    assert said[0][case][2] == pytest.approx(losses, rel=1e-10)
    assert float((weights(folder / case) - expected).abs().max()) < 1e-10
    start = torch.cat([p.detach().reshape(-1) for p in ToyDescriptors(seed=1).parameters()])
    assert float((expected - start).abs().max()) > 1e-2


@pytest.mark.slow
def test_signal_to_one_stops_both_and_one_process_goes_on(together, alone, store):
    folder, said = together
    assert said[0]["signal"][:2] == said[1]["signal"][:2] == ["SIGTERM", 4]
    run_ranks.train(store, folder / "signal", "adam", resume=True)
    assert float((weights(folder / "signal") - alone["adam"][0]).abs().max()) < 1e-10


@pytest.mark.slow
def test_patience_and_time_end_both_at_the_same_step(together):
    _, said = together
    for case in ("patience", "time"):
        assert said[0][case][:3] == said[1][case][:3]
        assert said[0][case][0] == case
    assert 2 <= len(said[0]["patience"][2]) < 200


@pytest.mark.slow
def test_memory_that_is_short_in_one_process_changes_no_weight_and_is_said_once(together, alone):
    folder, said = together
    assert float((weights(folder / "memory") - alone["adam"][0]).abs().max()) < 1e-10
    assert len(said[0]["memory"][3]) == 1
    assert "batches are computed in 2 parts from now on" in said[0]["memory"][3][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "text"), [("unreadable", "cannot read frame 7"), ("nan", "loss is not finite"), ("bug", "a bug")]
)
def test_what_fails_in_one_process_ends_both(together, case, text):
    _, said = together
    assert text in said[1][case][1]
    assert said[0][case][0] == "TrainingError"
    assert "another one failed" in said[0][case][1]


@pytest.mark.slow
def test_lost_process_ends_the_other(together):
    folder, said = together
    assert "lost" not in said[1]
    assert "was lost" in said[0]["lost"][1]
    assert read_checkpoint(folder / "lost" / CHECKPOINT_FILE)["step"] >= 3


def test_one_process_shares_with_nobody():
    ids = np.array([3, 1, 2])
    assert Alone().share(ids, lambda: ids) is ids
    assert Alone().agree(Said("time", True, 2)) == ("time", True, 2)


def test_batches_are_balanced_by_edges():
    from rutile.train.parallel import Ranks

    costs = np.array([100, 1, 50, 50, 2, 0, 7, 90])
    ids, shares = np.array([7, 0, 2, 3, 1, 4]), []
    for rank in range(3):
        ranks = Ranks.__new__(Ranks)
        ranks.rank, ranks.size = rank, 3
        shares.append(ranks.share(ids, lambda: costs))
    assert sorted(np.concatenate(shares)) == sorted(ids)
    loads = [costs[share].sum() for share in shares]
    assert max(loads) - min(loads) <= 10
    assert all(list(share) == [i for i in ids if i in share] for share in shares)


def test_a_problem_is_the_last_item():
    def items():
        yield 1
        raise ValueError("bad")

    first, last = list(or_problem(items()))
    assert first == 1
    assert isinstance(last, ValueError)
