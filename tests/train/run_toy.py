"""Train the toy in a process of its own: run_toy.py STORE FOLDER OPTIMIZER. Tells each step on stdout."""

import sys
from pathlib import Path

import numpy as np
from toy import ToyDescriptors

from rutile.core.reporting import SilentReporter
from rutile.data.store import Store
from rutile.train import settings as s
from rutile.train.examples import LinearisedExamples
from rutile.train.fit import fit

OPTIMIZERS = {"adam": s.Adam(learning_rate=0.02), "lbfgs": s.Lbfgs(iterations=3)}


def tell() -> None:
    """One line for each step."""
    sys.stdout.write("step\n")
    sys.stdout.flush()


def main(place: str, folder: str, name: str) -> None:
    """Train, or go on if the folder holds a checkpoint."""
    store, potential = Store.open(Path(place)), ToyDescriptors(seed=1)
    train = LinearisedExamples(store, np.arange(9), potential)
    valid = LinearisedExamples(store, np.arange(9, 12), potential, cache=train.cache)
    settings = s.TrainSettings(
        optimizer=OPTIMIZERS[name],
        schedule=s.Plateau(patience=1),
        epochs=12 if name == "lbfgs" else 4,
        batch_size=3,
        ema=0.9,
        precision="float64",
        tensorboard=False,
        checkpoint_seconds=0,
    )
    resume = (Path(folder) / "checkpoint.safetensors").exists()
    fit(potential, train, valid, settings, Path(folder), SilentReporter(), resume=resume, stop=tell)


if __name__ == "__main__":
    main(*sys.argv[1:])
