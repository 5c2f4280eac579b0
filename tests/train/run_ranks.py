"""One of several processes that train the toy together: run_ranks.py STORE FOLDER CASE... Writes what came of each."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from toy import ToyDescriptors

from rutile.core.errors import RutileError
from rutile.core.reporting import SilentReporter
from rutile.data.store import Store
from rutile.train import settings as s
from rutile.train.examples import LinearisedExamples
from rutile.train.fit import fit
from rutile.train.parallel import started_by_torchrun

TRAIN, VALID = np.arange(9), np.arange(9, 12)
CHANGES = {
    "lbfgs": {"optimizer": s.Lbfgs(iterations=3), "epochs": 2},
    "edges": {"batch_edges": 300},
}


def settings(case):
    """Batches of 4, 4 and 1: in the last one a rank has nothing to do."""
    base = {
        "optimizer": s.Adam(learning_rate=0.02),
        "schedule": s.Plateau(patience=1),
        "reweight": s.ReweightSettings(gamma=0.5, every=0.5),
        "loss": s.LossSettings(virial=s.Prefactor(start=1, limit=1)),
        "clip_norm": 1.0,
        "epochs": 4,
        "batch_size": 4,
        "ema": 0.9,
        "precision": "float64",
        "tensorboard": False,
        "checkpoint_seconds": 0,
    }
    return s.TrainSettings(**(base | CHANGES.get(case, {})))


def examples(store, potential):
    train = LinearisedExamples(store, TRAIN, potential)
    return train, LinearisedExamples(store, VALID, potential, cache=train.cache)


def train(store, folder, case, *, rank=0, resume=False):
    """Train the toy; in some cases something happens to the last rank."""
    potential = ToyDescriptors(seed=1 + rank)  # the weights of rank 0 count
    train, valid = examples(store, potential)
    steps = 0

    def stop():
        nonlocal steps
        steps += 1
        if rank == 1 and steps == 4:
            if case == "signal":
                return "SIGTERM"
            if case == "lost":
                os._exit(9)
        return None

    if rank == 1 and case == "unreadable":
        whole = train.batch

        def batch(ids):
            if steps >= 4:
                raise RutileError("cannot read frame 7")
            return whole(ids)

        train.batch = batch
    if rank == 1 and case == "nan":
        train._table.energy.fill_(torch.nan)
    return fit(potential, train, valid, settings(case), folder, SilentReporter(), resume=resume, stop=stop)


def main(place, folder, *cases):
    """All cases in one process group; what is lost comes last."""
    torch.set_num_threads(1)
    said = {}
    with started_by_torchrun() as team:
        for case in cases:
            where = Path(folder) / case
            where.mkdir(exist_ok=True)
            try:
                result = train(Store.open(Path(place)), where, case, rank=team.rank)
                said[case] = [result.stopped, result.steps, [row["valid_loss"] for row in result.history]]
            except RutileError as error:
                said[case] = [type(error).__name__, str(error)]
            (Path(folder) / f"said-{team.rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
