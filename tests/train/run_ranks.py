"""One of several processes that train the toy together: run_ranks.py STORE FOLDER CASE... Writes what came of each."""

import json
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from pretend import Pretend
from toy import ToyDescriptors

from rutile.core.errors import RutileError
from rutile.core.reporting import SilentReporter
from rutile.data.store import Store
from rutile.train import fit as loop
from rutile.train import settings as s
from rutile.train.examples import LinearisedExamples
from rutile.train.fit import fit
from rutile.train.loader import AHEAD
from rutile.train.parallel import started_by_torchrun
from rutile.train.signals import remember_signals

TRAIN, VALID = np.arange(9), np.arange(9, 12)
CHANGES = {
    "lbfgs": {"optimizer": s.Lbfgs(iterations=3), "epochs": 2},
    "edges": {"batch_edges": 300},
    "pretend": {"device": "pretend"},
    "patience": {"patience": 1, "epochs": 200, "optimizer": s.Adam(learning_rate=1.0)},
    "time": {"max_seconds": 1.0, "epochs": 100_000, "checkpoint_seconds": 1000},
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


def spoil(examples, case, steps):
    """What happens to the batches of one rank."""
    whole = examples.batch

    def batch(ids):
        if case == "unreadable" and len(steps) >= 4:
            raise RutileError("cannot read frame 7")
        labelled, predict = whole(ids)

        def fail(training):
            raise torch.OutOfMemoryError("CUDA out of memory") if case == "memory" else ZeroDivisionError("a bug")

        broken = (case == "memory" and len(ids) > 1) or case == "bug"
        return labelled, fail if broken else predict

    examples.batch = batch
    if case == "nan":
        examples._table.energy.fill_(torch.nan)


def train(store, folder, case, *, rank=0, resume=False, reporter=None):
    """Train the toy; in some cases something happens to the last rank."""
    potential = ToyDescriptors(seed=1 + rank)  # the weights of rank 0 count
    train, valid = examples(store, potential)
    steps = []
    if rank == 1:
        spoil(train, case, steps)
    with remember_signals() as asked:

        def stop():
            steps.append(1)
            if rank == 1 and len(steps) == 4 and case == "signal":
                os.kill(os.getpid(), signal.SIGTERM)
            if rank == 1 and len(steps) == 4 and case == "lost":
                os._exit(9)
            return asked()

        heard = reporter or SilentReporter()
        return fit(potential, train, valid, settings(case), folder, heard, resume=resume, stop=stop)


def main(place, folder, *cases):
    """All cases in one process group; what is lost comes last."""
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = os.environ["RANK"]
    said = {}
    with started_by_torchrun() as team:
        for case in cases:
            where = Path(folder) / case
            where.mkdir(exist_ok=True)
            elsewhere = Pretend() if case == "pretend" else nullcontext()
            loop.AHEAD = 0 if case == "pretend" else AHEAD  # threads know nothing of that device
            try:
                heard = SilentReporter()
                with elsewhere:
                    result = train(Store.open(Path(place)), where, case, rank=team.rank, reporter=heard)
                losses = [row["valid_loss"] for row in result.history]
                said[case] = [result.stopped, result.steps, losses, heard.warnings]
            except (RutileError, ZeroDivisionError) as error:
                said[case] = [type(error).__name__, str(error)]
            (Path(folder) / f"said-{team.rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
