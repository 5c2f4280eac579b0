"""Growing by elements and modes: the old predictions stay to the last digit."""

import pytest
import torch

from rutile.core.errors import ElementError, SettingsError
from rutile.potentials.catalogue import make
from rutile.potentials.evaluate import evaluate
from rutile.potentials.grow import grown
from rutile.potentials.parts.lora import add_low_rank, merge_low_rank
from rutile.potentials.settings import (
    AnataseSettings,
    BehlerSettings,
    DispersionSettings,
    PaiNNSettings,
    SchNetSettings,
    SumSettings,
    TeaNetSettings,
    ZBLSettings,
)
from rutile.structures.structures import concatenate
from rutile.testing.strategies import random_structure

SCHNET = SchNetSettings(cutoff=4.0, features=8, interactions=2, radial=8)
GROWING = [
    SCHNET,
    PaiNNSettings(cutoff=4.0, features=8, interactions=2, radial=8),
    AnataseSettings(channels=8, cutoffs=(4.0, 4.0), radial=4, sources=4, hidden=8),
    SumSettings(terms=(SCHNET, ZBLSettings())),
]


def trained(settings, elements=(8, 22), modes=("PBE", "RPBE"), dtype=torch.float64):
    """Random in every parameter, embeddings of all modes included."""
    made = make(settings, elements, 3, modes)
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in made.parameters():
            p += 0.1 * torch.randn(p.shape, generator=g, dtype=torch.float64)
    made.set_energy_scale(0.7)
    for m in range(len(modes)):
        made.set_reference_energies({z: -10.0 * z - m for z in elements}, m)
    return made.to(dtype)


def batch(numbers=(8, 22, 8, 22, 22, 8)):
    return concatenate([random_structure(k, list(numbers), pbc=(k == 0,) * 3) for k in range(3)])


@pytest.mark.parametrize("settings", GROWING, ids=lambda s: s.name)
@pytest.mark.parametrize("elements", [(1,), (6, 14, 92), (118,), tuple(range(1, 119))], ids=len)
def test_new_elements_and_modes_change_nothing_old(settings, elements):
    old, s = trained(settings), batch()
    new = grown(old, elements, ("HSE",))
    assert new.elements == tuple(sorted({8, 22, *elements}))
    assert new.modes == ("PBE", "RPBE", "HSE")
    for mode in range(2):
        asked = torch.full((3,), mode)
        p, q = evaluate(old, s, mode=asked), evaluate(new, s, mode=asked)
        assert torch.equal(p.energy, q.energy)
        torch.testing.assert_close(q.forces, p.forces, rtol=0, atol=1e-13)
    first, third = (evaluate(new, s, mode=torch.full((3,), mode)).forces for mode in (0, 2))
    torch.testing.assert_close(third, first, rtol=0, atol=1e-13)  # a new mode begins as the first one
    strange = batch((8, elements[-1], 22, elements[0], 8, 8))
    p = evaluate(new, strange)
    assert p.forces.isfinite().all()
    assert p.forces.abs().max() > 1e-3
    assert old.elements == (8, 22)


def test_the_mode_of_a_potential_of_one_mode_can_get_company():
    old, s = trained(SCHNET, modes=("PBE",)), batch()
    new = grown(old, modes=("RPBE",))
    assert torch.equal(evaluate(new, s).energy, evaluate(old, s).energy)
    assert new.reference.by_element(1) == old.reference.by_element(0)


def test_new_elements_are_not_copies_and_the_seed_decides():
    new, again, other = (grown(trained(SCHNET), (6,), (), torch.Generator().manual_seed(k)) for k in (0, 0, 1))
    rows = new.embedding.element
    assert (rows[0] - rows[1]).abs().max() > 0.1
    assert torch.equal(rows, again.embedding.element)
    assert not torch.equal(rows[0], other.embedding.element[0])


def test_single_precision_stays_single():
    old = trained(SCHNET, dtype=torch.float32)
    new = grown(old, (6,), ("HSE",))
    assert new.embedding.element.dtype == torch.float32
    assert new.reference.energy.dtype == torch.float64
    s = batch().to(dtype=torch.float32)
    torch.testing.assert_close(evaluate(new, s).energy, evaluate(old, s).energy, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_teanet_grows_too():
    old, s = trained(TeaNetSettings(), modes=("PBE",)), batch((8, 22))
    new = grown(old, (6, 92), ("HSE",))
    torch.testing.assert_close(evaluate(new, s).energy, evaluate(old, s).energy, rtol=0, atol=1e-12)


def test_dispersion_alone_knows_more_elements_at_once():
    old = make(DispersionSettings(), (8, 22), 0)
    torch.testing.assert_close(
        evaluate(grown(old, (6,)), batch()).energy, evaluate(old, batch()).energy, rtol=0, atol=0
    )


def test_behler_is_tied_to_its_elements_and_mode():
    old = make(BehlerSettings.model_validate({"auto": {"cutoff": 4.0}, "hidden": [4]}), (8, 22), 0, ("PBE",))
    with pytest.raises(ElementError, match="'behler' is tied to its elements and does not know C"):
        grown(old, (6,))
    with pytest.raises(SettingsError, match="cannot tell calc modes apart"):
        grown(old, (), ("RPBE",))
    assert grown(old, (8,), ("PBE",)).elements == (8, 22)


def test_what_does_not_keep_its_predictions_is_refused(monkeypatch):
    """A network that divides by the number of its elements."""
    from rutile.potentials.schnet import SchNet

    def changed(self, graph, position, plain=SchNet.outputs):
        return plain(self, graph, position) / len(self.elements)

    old = trained(SCHNET)
    monkeypatch.setattr(SchNet, "outputs", changed)
    with pytest.raises(ElementError, match="tied to its elements"):
        grown(old, (6,))


@pytest.mark.parametrize("settings", GROWING[:3], ids=lambda s: s.name)
def test_low_rank_updates_begin_where_the_model_was_and_are_merged(settings):
    made, s = trained(settings), batch()
    before, old = evaluate(made, s), {name: p.clone() for name, p in made.state_dict().items()}
    names = add_low_rank(made, 2, torch.Generator().manual_seed(0))
    assert len(names) > 5
    torch.testing.assert_close(evaluate(made, s).energy, before.energy, rtol=0, atol=1e-12)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if p.requires_grad and name.endswith(".a"):
                p += 0.1
    changed = evaluate(made, s)
    assert (changed.forces - before.forces).abs().max() > 1e-3
    merge_low_rank(made)
    torch.testing.assert_close(evaluate(made, s).forces, changed.forces, rtol=0, atol=1e-12)
    new = made.state_dict()
    assert new.keys() == old.keys()
    for name in names:
        assert 1 <= torch.linalg.matrix_rank(new[name] - old[name]).max() <= 2, name
