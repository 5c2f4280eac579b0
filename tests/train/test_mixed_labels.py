"""Frames without energy, forces or stress in one store: each adds exactly the terms of the labels that it has."""

import dataclasses

import numpy as np
import pytest
import torch
from toy import ToyDescriptors, teacher_frames

from rutile.core.reporting import SilentReporter
from rutile.data.making import make_store
from rutile.data.reading import ReadSettings, to_atoms
from rutile.structures import io
from rutile.train import settings as s
from rutile.train.examples import GraphExamples
from rutile.train.loss import Prefactors, errors, structure_losses

LACKS = ((), ("energy",), ("forces",), ("stress",), ("energy", "forces"), ("forces", "stress"), ("energy", "stress"))
LOSS = s.LossSettings(
    energy=s.Prefactor(start=1, limit=1), force=s.Prefactor(start=1, limit=1), virial=s.Prefactor(start=1, limit=1)
)
P = Prefactors(1.3, 0.7, 0.4)


@pytest.fixture
def frames():
    full = [f for f in teacher_frames(40, seed=2) if f.pbc.all() and f.stress is not None][: len(LACKS)]
    assert len(full) == len(LACKS)
    return [dataclasses.replace(f, **dict.fromkeys(lacks)) for f, lacks in zip(full, LACKS, strict=True)]


@pytest.fixture
def store(frames, tmp_path):
    """Through files and back: three files, each with frames of its own labels."""
    paths = [tmp_path / f"{k}.extxyz" for k in range(3)]
    for k, path in enumerate(paths):
        io.write_frames(path, [to_atoms(f) for f in frames[k::3]])
    made, tally = make_store(paths, tmp_path / "mixed.store", ReadSettings(), SilentReporter(), 1)
    for label in ("energy", "forces", "stress"):
        assert tally.labels[label] == sum(label not in lacks for lacks in LACKS)
    return made


def losses_of(examples, ids, p=P):
    labelled, predict = examples.batch(np.array(ids))
    return structure_losses(errors(predict(True), labelled), p, LOSS)


@pytest.mark.slow
def test_each_frame_adds_the_terms_that_it_has(store):
    """A batch of all equals each alone, and a frame's loss is the sum of the terms of its labels."""
    examples = GraphExamples(store, np.arange(len(store)), ToyDescriptors(seed=1))
    together = losses_of(examples, range(len(store)))
    assert torch.isfinite(together).all()
    terms = {
        "energy": Prefactors(P.energy, 0, 0),
        "forces": Prefactors(0, P.force, 0),
        "stress": Prefactors(0, 0, P.virial),
    }
    for k in range(len(store)):
        assert losses_of(examples, [k]).item() == pytest.approx(together[k].item(), rel=1e-12)
        alone = {label: losses_of(examples, [k], p).item() for label, p in terms.items()}
        for label, value in alone.items():
            assert (value > 0) == bool(store.array(f"has_{label}")[k]), (k, label)
        assert together[k].item() == pytest.approx(sum(alone.values()), rel=1e-12)


def test_gradients_are_the_sum_of_those_of_the_frames(store):
    potential = ToyDescriptors(seed=1)
    examples = GraphExamples(store, np.arange(len(store)), potential)

    def gradient(ids):
        loss = losses_of(examples, ids).sum()
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(potential.parameters()))])

    whole = gradient(range(len(store)))
    parts = sum(gradient([k]) for k in range(len(store)))
    assert whole.isfinite().all()
    assert torch.allclose(whole, parts, rtol=1e-10, atol=1e-14)
    assert not torch.allclose(whole, parts - gradient([1]), rtol=1e-3)
