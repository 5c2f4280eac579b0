import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from rutile.data.frames import Frame, batch_frames
from rutile.potentials.potential import Prediction
from rutile.train.loss import Errors, Prefactors, RunningErrors, errors, prefactors, structure_losses
from rutile.train.settings import LossSettings, Prefactor

SPEC = Path(__file__).resolve().parents[2].parent / "shared" / "spec" / "misc_vectors.json"
PAPER = LossSettings(
    energy=Prefactor(start=1, limit=400), force=Prefactor(start=1000, limit=1), virial=Prefactor(start=1, limit=400)
)
SYMMETRIC = [[0.3, 0, 0.03], [0, -0.6, 0], [0.03, 0, 0.15]]


def three_atoms(dtype=torch.float64):
    """The errors of `prl_loss` in the reference vectors: 3 atoms, dE 0.3 eV, dXi as above."""
    return Errors(
        energy=torch.tensor([0.3 / 3], dtype=dtype),
        forces=torch.tensor([[0.1, 0, 0], [0, -0.2, 0], [0, 0, 0.05]], dtype=dtype),
        virial=torch.tensor([SYMMETRIC], dtype=dtype) / 3,
        counts=torch.tensor([3.0], dtype=dtype),
        n_virial=torch.tensor(1),
        system=torch.tensor([0, 0, 0]),
    )


def test_loss_of_the_paper_by_hand():
    expected = 0.01 + 1000 / 9 * 0.0525 + 0.0527 / 9
    assert structure_losses(three_atoms(), Prefactors(1, 1000, 1), PAPER).item() == pytest.approx(expected, rel=1e-14)


def test_kit_convention_divides_by_atoms_once():
    kit = LossSettings(convention="deepmd-kit", virial=Prefactor(start=1, limit=1))
    expected = 0.3**2 / 3 + (0.3**2 + 0.6**2 + 0.15**2 + 2 * 0.03**2) / (9 * 3)
    assert structure_losses(three_atoms(), Prefactors(1, 0, 1), kit).item() == pytest.approx(expected, rel=1e-14)


def test_huber_and_l1_by_hand():
    huber = LossSettings(kind="huber", delta=0.12)
    force = 0.5 * 0.1**2 + 0.12 * (0.2 - 0.06) + 0.5 * 0.05**2
    expected = 2 * 0.5 * 0.1**2 + 3 * force / 9
    assert structure_losses(three_atoms(), Prefactors(2, 3, 0), huber).item() == pytest.approx(expected, rel=1e-14)
    l1 = structure_losses(three_atoms(), Prefactors(2, 3, 0), LossSettings(kind="l1")).item()
    assert l1 == pytest.approx(2 * 0.1 + 3 * 0.35 / 9, rel=1e-14)


def test_prefactors_follow_the_learning_rate():
    p = prefactors(PAPER, 0.95)
    assert (p.energy, p.force, p.virial) == pytest.approx((20.95, 950.05, 20.95), rel=1e-12)
    assert prefactors(PAPER, 1.0) == Prefactors(1, 1000, 1)
    assert prefactors(PAPER, 0.0) == Prefactors(400, 1, 400)


@pytest.mark.parametrize("start_limit", [(0, 5), (5, 0), (0, 0)])
def test_term_needs_both_start_and_limit(start_limit):
    start, limit = start_limit
    settings = LossSettings(virial=Prefactor(start=start, limit=limit))
    assert prefactors(settings, 0.5).virial == 0


def test_loss_without_terms_is_refused():
    with pytest.raises(ValidationError, match="no loss term is active"):
        LossSettings(energy=Prefactor(), force=Prefactor())


@pytest.mark.skipif(not SPEC.exists(), reason="reference vectors are not beside the checkout")
def test_reference_vectors():
    values = json.loads(SPEC.read_text())["values"]
    prl = values["prl_loss"]
    e = Errors(
        torch.tensor([prl["dE_total_eV"] / prl["N"]], dtype=torch.float64),
        torch.tensor(prl["dF"], dtype=torch.float64),
        torch.tensor([prl["dW_total_eV"]], dtype=torch.float64) / prl["N"],
        torch.tensor([float(prl["N"])], dtype=torch.float64),
        1,
        torch.zeros(prl["N"], dtype=torch.long),
    )
    assert structure_losses(e, Prefactors(*prl["p"]), PAPER).item() == pytest.approx(prl["L"], rel=1e-12)
    for row in values["schedule"]:
        p = prefactors(PAPER, row["lr_step"] / values["schedule_constants"]["r0"])
        assert (p.energy, p.force, p.virial) == pytest.approx((row["p_e"], row["p_f"], row["p_v"]), rel=1e-10)


def frame(k, **changes):
    values = torch.Generator().manual_seed(k)
    n = 2 + k
    base = Frame(
        numbers=torch.full((n,), 8).numpy(),
        positions=torch.rand(n, 3, generator=values).double().numpy(),
        cell=(torch.eye(3).double() * (4 + k)).numpy(),
        pbc=torch.ones(3, dtype=torch.bool).numpy(),
        energy=-3.0 * n,
        forces=torch.rand(n, 3, generator=values).double().numpy(),
        stress=(torch.eye(3).double() * 0.01).numpy(),
    )
    return replace(base, **changes)


def prediction_of(batch, seed=0):
    g = torch.Generator().manual_seed(seed)
    n, s = batch.structures.n_atoms, batch.structures.n_systems

    def random(*shape):
        return torch.rand(*shape, generator=g, dtype=torch.float64).requires_grad_()

    return Prediction(random(s), random(n, 3), random(s, 3, 3), random(n))


def test_errors_have_the_right_units_and_sign():
    batch = batch_frames([frame(0)])
    p = prediction_of(batch)
    e = errors(p, batch)
    assert e.energy.item() == pytest.approx((p.energy.item() + 6.0) / 2)
    # virial = -V stress, per atom
    assert torch.allclose(e.virial[0], -(p.stress[0] - torch.eye(3) * 0.01) * 64.0 / 2)
    assert torch.allclose(e.forces, p.forces - batch.forces)


@pytest.mark.parametrize("kind", ["mse", "huber", "l1"])
@pytest.mark.parametrize("missing", ["energy", "forces", "stress"])
def test_absent_label_contributes_exactly_nothing(kind, missing):
    settings = LossSettings(kind=kind, virial=Prefactor(start=1, limit=1))
    p = Prefactors(1.0, 2.0, 3.0)
    full, holed = batch_frames([frame(0), frame(1)]), batch_frames([frame(0), frame(1, **{missing: None})])
    prediction = prediction_of(full)
    losses = structure_losses(errors(prediction, holed), p, settings)
    off = {"energy": "energy", "forces": "force", "stress": "virial"}[missing]
    without = structure_losses(errors(prediction, full), replace(p, **{off: 0.0}), settings)
    assert losses[1].item() == without[1].item()
    assert losses[0].item() == structure_losses(errors(prediction, full), p, settings)[0].item()
    losses[1].backward()
    grads = {"energy": prediction.energy, "forces": prediction.forces, "stress": prediction.stress}
    for name, tensor in grads.items():
        rows = tensor.grad[2:] if name == "forces" else tensor.grad[1:]
        assert bool((rows == 0).all()) == (name == missing)


def test_virial_of_what_is_not_periodic_is_left_out():
    pbc = torch.tensor([True, True, False]).numpy()
    batch = batch_frames([frame(0, pbc=pbc)])
    assert bool((errors(prediction_of(batch), batch).virial == 0).all())


def test_running_errors_are_root_mean_squares_over_labels():
    batch = batch_frames([frame(0), frame(1, energy=None), frame(2, forces=None)])
    e = errors(prediction_of(batch), batch)
    running = RunningErrors.zero()
    running.add(e, batch, torch.tensor([1.0, 2.0, 6.0]))
    row = running.row("x")
    assert row["x_loss"] == 3.0
    assert row["x_energy_rmse"] == pytest.approx(((e.energy[0] ** 2 + e.energy[2] ** 2) / 2).sqrt().item())
    assert row["x_force_rmse"] == pytest.approx((e.forces[:5] ** 2).mean().sqrt().item())
    assert row["x_virial_rmse"] == pytest.approx((e.virial**2).mean().sqrt().item())
