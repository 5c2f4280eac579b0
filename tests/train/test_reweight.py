"""FL_i weights: published values, resume, suspects, and what they do to a training."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_fit import run, settings, stop_after, weights
from toy import ToyDescriptors, teacher_frames

from rutile.core.errors import SettingsError
from rutile.core.reporting import SilentReporter
from rutile.data.store import build_store
from rutile.train import settings as s
from rutile.train.examples import LinearisedExamples
from rutile.train.fit import fit
from rutile.train.loss import errors
from rutile.train.reweight import FocalLoss, Uniform, fl, make_reweighter
from rutile.train.settings import ReweightSettings

VECTORS = Path(__file__).resolve().parents[2].parent / "shared" / "spec" / "misc_vectors.json"
LOSSES = torch.tensor([0.01, 0.02, 0.03, 0.1], dtype=torch.float64)
ALL = torch.arange(4)


def observed(losses=LOSSES, **how):
    """Weights after one epoch with these losses."""
    r = FocalLoss(ReweightSettings(**({"gamma": 1.0, "clip": None, "suspect": None} | how)), len(losses))
    r.observe(torch.arange(len(losses)), losses)
    r.end_epoch()
    return r.weights(torch.arange(len(losses)))


@pytest.mark.skipif(not VECTORS.exists(), reason="the reference vectors are not at hand")
def test_agrees_with_the_reference_vectors():
    cases = json.loads(VECTORS.read_text())["values"]["FL"]
    assert len(cases) >= 5
    for case in cases:
        got = fl(torch.tensor(case["loss"], dtype=torch.float64), case["gamma"])
        assert got.numpy() == pytest.approx(case["FL"], rel=1e-12)


def test_hard_structures_count_more_by_the_equation():
    assert observed().tolist() == pytest.approx([0.25, 0.5, 0.75, 2.5])
    assert observed(gamma=0.5).tolist() == pytest.approx([0.25**0.5, 0.5**0.5, 0.75**0.5, 2.5**0.5])
    assert observed(gamma=3.0, clip=(0.05, 5.0)).tolist() == pytest.approx([0.05, 0.125, 0.421875, 5.0])
    normalised = observed(gamma=2.0, normalise=True)
    assert float(normalised.mean()) == pytest.approx(1)
    assert float(normalised[3] / normalised[0]) == pytest.approx(100)


def test_all_losses_zero_and_structures_not_yet_seen_count_one():
    assert observed(torch.zeros(4, dtype=torch.float64)).tolist() == [1.0] * 4
    r = FocalLoss(ReweightSettings(gamma=1.0, clip=None), 4)
    assert r.weights(ALL).tolist() == [1.0] * 4
    r.observe(ALL[:2], torch.tensor([1.0, 3.0]))
    r.end_epoch()
    assert r.weights(ALL).tolist() == pytest.approx([0.5, 1.5, 1.0, 1.0])


def test_weights_stay_within_an_epoch_unless_asked_for():
    r = FocalLoss(ReweightSettings(gamma=1.0, clip=None), 4)
    r.observe(ALL, LOSSES)
    assert r.weights(ALL).tolist() == [1.0] * 4
    often = FocalLoss(ReweightSettings(gamma=1.0, clip=None, every=0.5), 4)
    often.observe(ALL[:2], LOSSES[:2])
    assert often.weights(ALL).tolist() == pytest.approx([2 / 3, 4 / 3, 1.0, 1.0])


def test_memory_averages_losses():
    r = FocalLoss(ReweightSettings(gamma=1.0, clip=None, memory=0.75), 2)
    for losses in ([1.0, 1.0], [1.0, 5.0]):
        r.observe(ALL[:2], torch.tensor(losses))
        r.end_epoch()
    assert r.weights(ALL[:2]).tolist() == pytest.approx([2 / 3, 4 / 3])  # losses 1 and 0.75 + 0.25 * 5 = 2


def test_a_suspect_is_named_once_and_not_amplified():
    losses = torch.tensor([1.0, 1.0, 2.0, 1.0, 500.0], dtype=torch.float64)
    r = FocalLoss(ReweightSettings(gamma=1.0, clip=None), 5)
    named = []
    for _ in range(2):
        r.observe(torch.arange(5), losses)
        named.append(r.end_epoch().tolist())
    assert named == [[4], []]
    assert r.weights(torch.arange(5)).tolist() == pytest.approx([0.8, 0.8, 1.6, 0.8, 1.0])
    assert float(observed(losses)[4]) == pytest.approx(5 * 500 / 505)


def test_no_power_no_weights():
    assert isinstance(make_reweighter(ReweightSettings(), 3), Uniform)
    with pytest.raises(ValidationError, match="clip"):
        ReweightSettings(gamma=1, clip=(2.0, 3.0))


FOCAL = ReweightSettings(gamma=1.0, every=0.5, memory=0.5)


@pytest.mark.slow
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(store, tmp_path):
    how = settings(epochs=4, reweight=FOCAL)
    whole, _ = run(store, tmp_path / "whole", how)
    for steps in (1, 4, 5):
        folder = tmp_path / str(steps)
        run(store, folder, how, stop=stop_after(steps))
        parts, _ = run(store, folder, how, resume=True)
        assert torch.equal(weights(whole), weights(parts))
    plain, _ = run(store, tmp_path / "plain", settings(epochs=4))
    assert not torch.allclose(weights(whole), weights(plain))
    with pytest.raises(SettingsError, match=r"reweight\.gamma"):
        run(store, tmp_path / "plain", how, resume=True)


def test_a_wrong_label_is_named_while_training(tmp_path):
    frames = teacher_frames(12)
    frames[5].forces[:] += 1000.0
    store = build_store(frames, tmp_path / "store")
    reporter = SilentReporter()
    potential = ToyDescriptors(seed=1)
    train = LinearisedExamples(store, np.arange(12), potential)
    fit(potential, train, train, settings(epochs=2, reweight=ReweightSettings(gamma=0.5)), tmp_path, reporter)
    (said,) = [text for text in reporter.warnings if "medians" in text]
    assert "toy.extxyz#5" in said
    assert "toy.extxyz#4" not in said
    rows = list(csv.DictReader((tmp_path / "weights.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 12
    assert rows[0]["structure"].endswith("toy.extxyz#5")
    losses, weighted = ([float(row[name]) for row in rows] for name in ("loss", "weight"))
    assert losses == sorted(losses, reverse=True)
    assert weighted[1:] == sorted(weighted[1:], reverse=True)  # the first one is suspected: it counts as any other
    assert weighted[1] > weighted[0]
    (tmp_path / "sub").mkdir()
    fit(potential, train, train, settings(epochs=1), tmp_path / "sub", reporter)
    assert not (tmp_path / "sub" / "weights.csv").exists()


@pytest.mark.slow
def test_what_is_hard_is_learned_better(tmp_path):
    """Nine frames and one equal frame of another energy: the plain optimum is a tenth of the way between the labels.

    With gamma = 1/2 the weights at rest go as the errors, d and 1 - d, so 9 d^2 = (1 - d)^2: the tenth frame draws the
    prediction to d = 1/4; with gamma = 1 to 1 / (1 + 9^(1/3)).
    """
    frames = [dataclasses.replace(teacher_frames(1)[0], forces=None, stress=None) for _ in range(10)]
    frames[9] = dataclasses.replace(frames[9], energy=frames[9].energy + len(frames[9].numbers))
    store = build_store(frames, tmp_path / "store")

    def distance(gamma):
        potential, folder = ToyDescriptors(seed=1), tmp_path / f"{gamma}"
        train = LinearisedExamples(store, np.arange(10), potential)
        folder.mkdir()
        how = settings(
            epochs=400,
            batch_size=10,
            loss=s.LossSettings(energy=s.Prefactor(start=1, limit=1), force=s.Prefactor()),
            optimizer=s.Sgd(learning_rate=0.005),
            reweight=ReweightSettings(gamma=gamma, clip=None, suspect=None),
        )
        fit(potential, train, train, how, folder, SilentReporter())
        labelled, predict = train.batch(np.arange(1))
        return float(errors(predict(False), labelled).energy[0])  # per atom, where the labels are 0 and 1

    assert distance(0.0) == pytest.approx(0.1, abs=0.005)
    assert distance(0.5) == pytest.approx(0.25, abs=0.005)
    assert distance(1.0) == pytest.approx(1 / (1 + 9 ** (1 / 3)), abs=0.005)
