"""Nodes are read from what sinfo writes."""

import os

import pytest

from rutile.core.executors.queue import FIELDS, Node, SlurmQueue, nodes_of

GRES, USED = "gpu:h100:4(S:0-1),shard:8(S:0)", "gpu:h100:3(IDX:0-2),shard:0"
LINES = [
    ("gpu01", "gpu*", "mixed", "24/72/0/96", "1031000", "256000", GRES, USED),
    ("gpu01", "debug", "mixed", "24/72/0/96", "1031000", "256000", GRES, USED),
    ("cpu01", "cpu", "drained*", "0/0/64/64", "257000", "0", "(null)", "gpu:0"),
    ("mix01", "cpu", "allocated", "64/0/0/64", "257000", "257000", "gpu:2,gpu:a100:1(S:1)",
     "gpu:2(IDX:0-1),gpu:a100:0(IDX:N/A)"),
    ("new01", "cpu", "future", "0/0/0/0", "N/A", "N/A", "(null)", "(null)"),
]  # fmt: skip
TEXT = "".join("".join(f"{word:<250}" for word in line) + "\n" for line in LINES) + "slurm_load_node: warning\n"
NODES = [
    Node("gpu01", "mixed", ("gpu", "debug"), 96, 24, 1031.0, 256.0, 4, 3),
    Node("cpu01", "drained", ("cpu",), 64, 0, 257.0, 0.0, 0, 0),
    Node("mix01", "allocated", ("cpu",), 64, 64, 257.0, 257.0, 3, 2),
]


def test_nodes_are_told_once_with_their_gpus():
    assert nodes_of(TEXT) == NODES
    assert nodes_of(TEXT, "shard")[0].gpus == 8
    assert nodes_of("") == []


@pytest.fixture
def slurm_of(tmp_path, monkeypatch):
    """Programs in the place of Slurm's: what sinfo does."""

    def make(sinfo):
        for name in ("sbatch", "squeue", "scancel", "sinfo"):
            (tmp_path / name).write_text(f"#!/bin/sh\n{sinfo if name == 'sinfo' else ''}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return SlurmQueue("x")

    return make


def test_sinfo_is_asked_for_each_node(slurm_of, tmp_path):
    (tmp_path / "said").write_text(TEXT)
    queue = slurm_of(f'echo "$@" > {tmp_path}/asked; cat {tmp_path}/said')
    assert queue.nodes("gpu") == NODES
    asked = (tmp_path / "asked").read_text()
    assert "--Node" in asked
    assert "--partition=gpu" in asked
    assert all(field in asked for field in FIELDS)


def test_a_slurm_that_does_not_answer_has_no_nodes(slurm_of):
    assert slurm_of("echo slurm_load_partitions: Unable to contact slurm controller >&2; exit 1").nodes() is None
