"""Model files: what goes in comes out, and whatever is not a whole model file of this program is refused by name."""

import json
import pickle
from pathlib import Path
from typing import Annotated

import pytest
import safetensors.torch
import torch
from ase.io import read
from pydantic import Field

import rutile
from rutile.core.errors import FileError, ModelFileError
from rutile.data.frames import Frame
from rutile.potentials import catalogue, save, settings
from rutile.potentials.evaluate import evaluate
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.settings import AnataseSettings, BehlerSettings
from rutile.potentials.settings.stored import core_of, cutoff_of, stored_surroundings
from rutile.structures.surroundings import Surroundings
from rutile.testing.strategies import random_crystal
from rutile.testing.toys import ToySettings, make_toy

INFO = ModelInfo(
    elements=(8, 22), calc_modes=("PBE",), training_data="ab" * 32, metrics={"valid": {"energy_rmse": 0.004}}
)


@pytest.fixture(autouse=True)
def catalogue_with_toy(monkeypatch):
    monkeypatch.setitem(catalogue.POTENTIALS, "toy", "rutile.testing.toys:Toy")
    monkeypatch.setattr(
        settings,
        "PotentialSettings",
        Annotated[ToySettings | BehlerSettings | AnataseSettings, Field(discriminator="name")],
    )


@pytest.fixture
def model():
    return Model([make_toy(1)], INFO)


@pytest.fixture
def path(tmp_path, model):
    model.save(tmp_path / "model.rutile")
    return tmp_path / "model.rutile"


def test_a_model_comes_back_bit_for_bit(path, model):
    back = rutile.load(path)
    a = random_crystal(0)
    before, after = evaluate(model.potential, a), evaluate(back.potential, a)
    assert torch.equal(before.energy, after.energy)
    assert torch.equal(before.forces, after.forces)
    assert back.info == INFO
    assert back.potentials[0].settings == ToySettings()
    assert all(p.requires_grad for p in back.potentials[0].parameters())


def test_surroundings_of_the_training_data_come_back_and_may_be_missing(tmp_path, path):
    met = Surroundings.of([Frame(a.numbers.numpy(), a.positions.numpy(), a.cell[0].numpy(), a.pbc[0].numpy())
                           for a in map(random_crystal, range(3))])  # fmt: skip
    assert met.ranges
    Model([make_toy(1)], INFO, surroundings=met).save(tmp_path / "met.rutile")
    assert rutile.load(tmp_path / "met.rutile").surroundings == stored_surroundings(tmp_path / "met.rutile") == met
    assert rutile.load(path).surroundings is stored_surroundings(path) is None
    assert stored_surroundings(tmp_path / "none.rutile") is None


def test_damaged_surroundings_are_refused(path):
    tensors, description = save.read_tensors(path)
    save.write_tensors(path, tensors, {**description, "surroundings": {"ranges": {"O-O": "wide"}}})
    assert stored_surroundings(path) is None
    with pytest.raises(ModelFileError, match="the description is damaged"):
        rutile.load(path)


def test_a_folder_with_a_model_inside(path, model):
    assert rutile.load(path.parent).info == model.info


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_committee_in_either_precision(tmp_path, dtype):
    model = Model([make_toy(s).to(dtype) for s in range(3)], INFO)
    model.save(tmp_path / "c.rutile")
    back = rutile.load(tmp_path / "c.rutile")
    assert back.committee
    for a, b in zip(model.potentials, back.potentials, strict=True):
        assert b.weights.dtype == dtype
        assert torch.equal(a.weights, b.weights)


def test_same_model_same_bytes(path, model, tmp_path):
    model.save(tmp_path / "again.rutile")
    assert path.read_bytes() == (tmp_path / "again.rutile").read_bytes()


def test_nan_in_metrics_becomes_null(tmp_path):
    Model([make_toy()], INFO.model_copy(update={"metrics": {"x": [float("nan"), 1.0]}})).save(tmp_path / "m.rutile")
    assert rutile.load(tmp_path / "m.rutile").info.metrics == {"x": [None, 1.0]}


def assert_refused(path, *words):
    with pytest.raises(ModelFileError) as error:
        rutile.load(path)
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    for word in words:
        assert word in text, text


def test_missing(tmp_path):
    assert_refused(tmp_path / "none.rutile", "no such file")
    assert_refused(tmp_path, "model.rutile", "no such file")


@pytest.mark.parametrize("junk", [b"", b"x", b"hello world, a text", bytes(range(256)) * 8, pickle.dumps({"a": 1})])
def test_garbage(tmp_path, junk):
    (tmp_path / "junk.rutile").write_bytes(junk)
    assert_refused(tmp_path / "junk.rutile", "not a rutile file")


def test_a_torch_file_is_not_unpickled(tmp_path):
    torch.save({"w": torch.zeros(2)}, tmp_path / "m.pt")
    assert_refused(tmp_path / "m.pt", "not a rutile file")


def test_every_truncation_is_noticed(path):
    data = path.read_bytes()
    for size in [0, 1, 7, 8, 9, 50, 500, len(data) - 8, len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(ModelFileError):
            rutile.load(path)


def test_a_flipped_bit_in_the_numbers_is_noticed(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert_refused(path, "checksum")


def test_another_programs_safetensors(tmp_path):
    safetensors.torch.save_file({"w": torch.zeros(2)}, tmp_path / "x.safetensors")
    assert_refused(tmp_path / "x.safetensors", "another program")


def rewrite(path, **changes):
    """The file with parts of its description (dotted keys as nested calls) and tensors changed."""
    tensors, description = save.read_tensors(path)
    for key, change in changes.items():
        if key == "tensors":
            change(tensors)
        else:
            description[key] = change(description[key])
    save.write_tensors(path, tensors, description)


def test_a_newer_format(path):
    rewrite(path, format=lambda v: v + 1, info=lambda i: {**i, "rutile": "9.9"})
    assert_refused(path, "9.9", "upgrade rutile")


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.5])
def test_an_impossible_format(path, version):
    rewrite(path, format=lambda _: version)
    assert_refused(path, "format", "damaged")


def test_another_kind_of_file(path):
    rewrite(path, kind=lambda _: "checkpoint")
    assert_refused(path, "checkpoint", "not a model")


def test_an_unknown_potential(path):
    rewrite(path, members=lambda m: [{**m[0], "potential": "orb9"}])
    assert_refused(path, "'orb9'", "known: ", "toy")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda m: {**m, "settings": {"name": "toy", "cutof": 3}}, "cutof"),
        (lambda m: {**m, "settings": {"name": "toy", "cutoff": -3}}, "greater than 0"),
        (lambda m: {k: v for k, v in m.items() if k != "settings"}, "settings"),
        (lambda m: {**m, "elements": ["O"]}, "damaged"),
        (lambda m: {**m, "dtype": "float8"}, "float8"),
        (lambda m: 3, "damaged"),
    ],
)
def test_a_damaged_description(path, change, word):
    rewrite(path, members=lambda m: [change(m[0])])
    assert_refused(path, word)


def test_no_members(path):
    rewrite(path, members=lambda _: [])
    assert_refused(path, "no members")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: t.pop("0.weights"), "'weights' is missing"),
        (lambda t: t.update({"0.extra": torch.zeros(1)}), "'extra' is not part"),
        (lambda t: t.update({"0.weights": torch.zeros(2, 2, 3).double()}), "shape [2, 2, 3] instead of [2, 2, 2]"),
        (lambda t: t.update({"0.weights": torch.zeros(2, 2, 2)}), "float32"),
        (lambda t: t.update({"1.weights": torch.zeros(2, 2, 2).double()}), "member '1'"),
    ],
)
def test_wrong_tensors(path, change, word):
    rewrite(path, tensors=change)
    assert_refused(path, word)


def test_an_old_format_passes_through_its_upgrade(path, monkeypatch):
    """The format before called the weights differently, say."""

    def upgrade(tensors, description):
        tensors["0.weights"] = tensors.pop("0.old_name")
        return tensors, description

    rewrite(path, tensors=lambda t: t.update({"0.old_name": t.pop("0.weights")}))
    monkeypatch.setattr(save, "UPGRADES", {save.FORMAT: upgrade})
    monkeypatch.setattr(save, "FORMAT", save.FORMAT + 1)
    assert torch.equal(rutile.load(path).potentials[0].weights, make_toy(1).weights)


def test_every_old_format_has_an_upgrade():
    assert sorted(save.UPGRADES) == list(range(1, save.FORMAT))


def test_a_failed_write_leaves_the_old_file_and_no_litter(path, model, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileError, match="No space left on device"):
        Model([make_toy(9)], INFO).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["model.rutile"]


def test_a_missing_folder(tmp_path, model):
    with pytest.raises(FileError, match="nowhere"):
        model.save(tmp_path / "nowhere" / "m.rutile")


def test_tensors_of_any_type_and_shape(tmp_path):
    tensors = {
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        "bool": torch.tensor([True, False]),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "one": torch.arange(9.0, dtype=torch.float64).reshape(3, 3).T[1:2, :1],
        "one row": torch.arange(6.0, dtype=torch.float64).reshape(3, 2).T[1:],
        "grad": torch.ones(2, requires_grad=True),
    }
    save.write_tensors(tmp_path / "t", tensors, {"kind": "checkpoint", "step": 3})
    back, description = save.read_tensors(tmp_path / "t")
    assert description == {"kind": "checkpoint", "step": 3}
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[k], tensors[k]) and back[k].dtype == tensors[k].dtype for k in tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_behler_in_either_precision(tmp_path, dtype):
    """Parts that stay in double precision (energies of the atoms) come back in double precision."""
    potential = catalogue.make(BehlerSettings(auto={"cutoff": 4.0}, hidden=(3,)), (8, 22), 0).to(dtype)
    potential.set_reference_energies({8: -432.123456789012, 22: -1604.987654321})
    Model([potential], INFO).save(tmp_path / "m.rutile")
    back = rutile.load(tmp_path / "m.rutile").potentials[0]
    for (name, x), y in zip(potential.state_dict().items(), back.state_dict().values(), strict=True):
        assert x.dtype == y.dtype, name
        assert torch.equal(x, y), name


def double(values):
    return torch.tensor(values, dtype=torch.float64)


MODELS = sorted((Path(__file__).parent / "models").glob("*.rutile"))


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_models_of_every_format_load_for_ever(path):
    """Written by `scripts/model_fixture.py` when the format was new; never written again."""
    expected = json.loads(path.with_suffix(".json").read_text())
    model = rutile.load(path)
    p = model.evaluate(read(path.with_suffix(".extxyz"), ":"))
    torch.testing.assert_close(p.energy, double(expected["energy"]), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(p.forces, double(expected["forces"]), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(p.stress, double(expected["stress"]), rtol=1e-9, atol=1e-10)
    info = model.info.model_dump(mode="json")
    assert {key: info[key] for key in expected["info"]} == expected["info"]  # later versions know more of a model


def test_the_present_format_is_among_them():
    assert any(p.name.startswith(f"v{save.FORMAT}_") for p in MODELS)


def test_the_upgrades_reach_the_terms_of_sums():
    """Dispersion on top of a network must not change what the network of an older file says."""
    network = {"name": "anatase", "zbl": True}
    whole = {"name": "sum", "terms": [network, {"name": "zbl"}, {"name": "sum", "terms": [network]}, {"name": "d3"}]}
    old = {"members": [{"potential": "sum", "settings": whole}, {"potential": "anatase", "settings": network}]}
    for version in (2, 3, 4, 5):
        _, old = save.UPGRADES[version]({}, old)
    as_before = network | {"normalised_states": True, "zbl_end": 1.0, "wave_decay": 0.0}
    first, second = (member["settings"] for member in old["members"])
    assert first["terms"][:2] == [as_before, {"name": "zbl", "end": 1.0}]
    assert first["terms"][2]["terms"] == [as_before] == [second]
    assert first["terms"][3] == {"name": "d3"}


@pytest.mark.parametrize("name", ["ani", "behler", "deepmd"])
def test_descriptor_potentials_of_older_files_have_no_core_repulsion(name):
    now = {"name": name, "zbl": True, "zbl_end": 0.7}
    old = {"members": [{"settings": s} for s in ({"name": name}, {"name": "sum", "terms": [{"name": name}]}, now)]}
    first, second, third = (member["settings"] for member in save.UPGRADES[4]({}, old)[1]["members"])
    end = 0.8 if name == "deepmd" else 0.6
    assert second["terms"] == [first] == [{"name": name, "zbl": False, "zbl_end": end}]
    assert third == now


@pytest.mark.parametrize(
    ("stored", "farthest"),
    [
        ({"name": "teanet", "cutoffs": [3.0, 6.0, 4.0]}, 6.0),
        ({"name": "ani", "radial_cutoff": 5.2, "angular_cutoff": 3.5, "cutoff_function": "cosine"}, 5.2),
        ({"name": "deepmd", "cutoff": 6.0, "full_cutoff": 9.0}, 6.0),  # by which it was made, not how far it sees
        ({"name": "sum", "terms": [{"name": "zbl"}, {"name": "d3", "cutoff": 14.0}, {"cutoff": 5.0}]}, 14.0),
        ([{"settings": {"cutoff": 5.0}}, {"settings": {"cutoff": 5.5}}], 5.5),
        ({"auto": {"cutoff": 9.0}, "table": {"length_unit": "Bohr", "blocks": [{"cutoff": 10.0}]}}, 5.29177210903),
        ({"cutoff": [float("nan"), float("inf"), 10**400, -1, "5"], "cutoffs": None}, None),
        ({"name": "toy"}, None),
        (None, None),
    ],
)
def test_the_farthest_cutoff_is_read_from_stored_settings(stored, farthest):
    assert cutoff_of(stored) == (farthest and pytest.approx(farthest))


@pytest.mark.parametrize(
    ("stored", "end"),
    [
        ({"name": "behler", "zbl": True, "zbl_end": 0.7}, 0.7),
        ({"name": "painn", "zbl": True}, 1.0),  # of before it could be chosen
        ({"name": "behler", "zbl": False, "zbl_end": 0.7}, None),
        ({"name": "behler"}, None),
        ({"name": "sum", "terms": [{"name": "ani", "zbl": False}, {"name": "zbl", "end": 0.6}, {"name": "d3"}]}, 0.6),
        (None, None),
    ],
)
def test_the_end_of_the_core_repulsion_is_read_from_stored_settings(stored, end):
    assert core_of(stored) == end
