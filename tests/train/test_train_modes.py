"""Training on several reference methods at once, and fine-tuning a trained model, through the train task."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from rutile.core.errors import ElementError, LabelError, ModeError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.data.frames import Frame
from rutile.data.reading import read_frames
from rutile.data.settings import ReadSettings, ReferenceSettings
from rutile.data.statistics import mode_weights, reference_sums, references_by_mode
from rutile.data.store import build_store
from rutile.potentials.evaluate import evaluate
from rutile.potentials.save import load_model
from rutile.tasks import evaluate as evaluate_task
from rutile.tasks import predict as predict_task
from rutile.tasks.train import TrainTaskSettings, run
from rutile.testing.strategies import random_structure


class Method(torch.nn.Module):
    """A reference method: Morse pairs, D [(1 - exp(-a (r - b)))^2 - 1] (1 - r^2/rc^2)^3, and energies of atoms."""

    def __init__(self, depth, width, bond, zero, cutoff=4.0):
        super().__init__()
        self.cutoff, self.elements = cutoff, ()
        self.depth, self.width, self.bond, self.zero = depth, width, bond, zero

    def forward(self, graph):
        r = graph.vectors.norm(dim=1)
        pair = (graph.numbers[graph.i] + graph.numbers[graph.j]) // 14  # OO: 1, OTi: 2, TiTi: 3
        depth, bond = self.depth / pair, self.bond + 0.35 * pair
        morse = (1 - torch.exp(-self.width * (r - bond))) ** 2 - 1
        energy = 0.5 * depth * morse * (1 - r**2 / self.cutoff**2).clamp(min=0) ** 3
        zero = torch.where(graph.numbers == 8, self.zero[0], self.zero[1]).double()
        return zero.index_add(0, graph.i, energy)


ONE = Method(0.6, 1.5, 1.6, (-430.0, -1600.0))
TWO = Method(0.66, 1.45, 1.63, (-2041.0, -23_000.0))


def frames(method, n, seed, mode="", kinds=(8, 22)):
    """Labelled structures of varied composition."""
    out = []
    for k in range(n):
        numbers = [kinds[0]] * 4 + [kinds[-1]] * 2 + [kinds[k % len(kinds)]]
        s = random_structure(1000 * seed + k, numbers)
        p = evaluate(method, s)
        atoms = Atoms(numbers, s.positions.numpy(), cell=s.cell[0].numpy(), pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=float(p.energy[0]), forces=p.forces.numpy())
        if mode:
            atoms.info["calc_mode"] = mode
        out.append(atoms)
    return out


SCHNET = {"name": "schnet", "cutoff": 4.0, "features": 16, "interactions": 1, "radial": 12}


def settings(data, out, **changes):
    base = {
        "data": data if isinstance(data, list) else [data],
        "out": out,
        "potential": SCHNET,
        "split": {"valid": 0.25},
        "epochs": 2,
        "batch_size": 8,
        "tensorboard": False,
        "optimizer": {"name": "adam", "learning_rate": 0.005},
    }
    return TrainTaskSettings.model_validate(base | changes)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modes")
    write(folder / "one.extxyz", frames(ONE, 16, 1, "ONE"))
    write(folder / "two.extxyz", frames(TWO, 10, 2, "TWO"))
    write(folder / "nameless.extxyz", frames(TWO, 10, 3))
    return folder


@pytest.fixture(scope="module")
def joint(files, tmp_path_factory):
    """A model of both methods, with what was said while it was trained."""
    reporter = SilentReporter()
    data = [files / "one.extxyz", files / "two.extxyz"]
    return run(settings(data, tmp_path_factory.mktemp("joint") / "run"), reporter), reporter


def errors(result, part="valid", quantity="force"):
    return {e.frames: e.rmse for e in result.errors if (e.part, e.quantity) == (part, quantity)}


@pytest.mark.slow
def test_each_mode_has_its_reference_energies_and_errors(files, joint):
    result, reporter = joint
    model = load_model(result.model)
    assert model.modes == model.info.calc_modes == ("ONE", "TWO")
    (potential,) = model.potentials
    for m, method in enumerate((ONE, TWO)):
        e0 = potential.reference.by_element(m)
        assert [e0[8], e0[22]] == pytest.approx(list(method.zero), abs=30)
        assert sum("reference energies of calc mode " + ("ONE", "TWO")[m] in w for w in reporter.warnings) == 1
    assert set(errors(result)) == {"all", "ONE", "TWO"}
    assert "calc mode" in result.report.read_text()
    header = (result.model.parent / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"valid_force_rmse", "valid_ONE_force_rmse", "valid_TWO_energy_rmse"} <= set(header)
    assert any(text.startswith("calc mode TWO: ") for text in reporter.messages)


@pytest.mark.slow
def test_joint_training_beats_training_on_the_small_mode_alone(tmp_path):
    """Three frames of a method are too few; beside sixty of a similar one they are not."""
    for name, method, n, seed in (("one", ONE, 60, 21), ("two", TWO, 3, 22), ("held", TWO, 20, 23)):
        write(tmp_path / f"{name}.extxyz", frames(method, n, seed, "ONE" if method is ONE else "TWO"))
    found = {}
    for kind, data in (("joint", ["one", "two"]), ("alone", ["two"])):
        how = {
            "split": {"valid_files": [tmp_path / "held.extxyz"]},
            "batch_size": 4,
            "epochs": 20 if kind == "joint" else 320,  # steps: 16 and 1 in an epoch
            "schedule": {"name": "cosine"},
            "optimizer": {"name": "adam", "learning_rate": 0.02},
            "mode_balance": 0.5,
        }
        result = run(settings([tmp_path / f"{x}.extxyz" for x in data], tmp_path / kind, **how), SilentReporter())
        found[kind] = errors(result)["all"]
    assert found["joint"] < 0.7 * found["alone"], found


@pytest.mark.slow
def test_the_saved_model_has_the_errors_of_each_mode(files, joint, tmp_path):
    result, _ = joint
    found = evaluate_task.run(
        evaluate_task.EvaluateSettings(
            model=result.model, data=[files / "one.extxyz", files / "two.extxyz"], out=tmp_path / "e", predictions=True
        ),
        SilentReporter(),
    )
    by_mode = {e.name: e for e in found.errors if e.subset == "mode" and e.quantity == "energy"}
    model = load_model(result.model)
    for name, file in (("ONE", "one.extxyz"), ("TWO", "two.extxyz")):
        images = read(files / file, ":")
        p = model.evaluate(images, mode=name)
        labels = torch.tensor([a.get_potential_energy() for a in images])
        error = ((p.energy - labels) / 7).square().mean().sqrt().item()
        assert by_mode[name].rmse == pytest.approx(error, rel=1e-9)
        assert error < 2.0  # the zeros are a thousand apart
    assert len(found.errors) == len({(e.quantity, e.unit, e.subset, e.name) for e in found.errors})


@pytest.mark.slow
def test_frames_of_another_method_are_refused_unless_a_mode_is_given(files, joint, tmp_path):
    model = joint[0].model
    write(tmp_path / "hse.extxyz", frames(ONE, 2, 9, "HSE"))

    def ask(file, **more):
        how = evaluate_task.EvaluateSettings(model=model, data=[file], out=tmp_path / "e", **more)
        return evaluate_task.run(how, SilentReporter())

    with pytest.raises(ModeError, match=r"hse\.extxyz#0: its labels are of calc mode 'HSE'.*knows ONE, TWO"):
        ask(tmp_path / "hse.extxyz")
    assert ask(tmp_path / "hse.extxyz", mode="ONE").frames == 2
    with pytest.raises(ModeError, match="say mode=NAME, one of ONE, TWO"):
        ask(files / "nameless.extxyz")
    assert ask(files / "nameless.extxyz", mode="TWO").frames == 10
    assert ask(files / "nameless.extxyz", read={"modes": {"nameless.extxyz": "TWO"}}).frames == 10


@pytest.mark.slow
def test_predictions_carry_the_mode(files, joint, tmp_path):
    def ask(**more):
        out = tmp_path / "out.extxyz"
        how = predict_task.PredictSettings(
            model=joint[0].model, structures=[files / "nameless.extxyz"], out=out, **more
        )
        predict_task.run(how, SilentReporter())
        return read(out, ":")

    with pytest.raises(ModeError, match="one of ONE, TWO"):
        ask()
    one, two = ask(mode="ONE"), ask(mode="TWO")
    assert {a.info["calc_mode"] for a in one} == {"ONE"}
    assert {a.info["calc_mode"] for a in two} == {"TWO"}
    difference = (one[0].get_potential_energy() - two[0].get_potential_energy()) / 7
    assert difference == pytest.approx(5 * (2041 - 430) / 7 + 2 * (23_000 - 1600) / 7, rel=0.01)


@pytest.mark.slow
def test_a_file_is_given_a_mode(files, tmp_path):
    paths = [files / "one.extxyz", files / "nameless.extxyz"]

    def modes(given):
        return [f.calc_mode for f in read_frames(paths, ReadSettings(modes=given), SilentReporter())]

    assert modes({"nameless.extxyz": "TWO"}) == ["ONE"] * 16 + ["TWO"] * 10
    assert modes({str(files / "nameless.extxyz"): "TWO"}) == ["ONE"] * 16 + ["TWO"] * 10
    assert modes({"*/name*": "X"})[-1] == "X"
    assert modes({"*": "X"}) == ["X"] * 26
    with pytest.raises(SettingsError, match=r"'other\.xyz' fits none of the files"):
        modes({"other.xyz": "X"})
    with pytest.raises(SettingsError, match="fits two keys, one says 'X', the other 'Y'"):
        modes({"*": "X", "one.extxyz": "Y"})
    with pytest.raises(ModeError, match=r"10 frames \(first: .*nameless\.extxyz#0\) name no calc mode, others .* ONE"):
        run(settings(paths, tmp_path / "a"), SilentReporter())
    result = run(settings(paths, tmp_path / "b", read={"modes": {"nameless.extxyz": "TWO"}}), SilentReporter())
    assert load_model(result.model).modes == ("ONE", "TWO")
    behler = {"name": "behler", "hidden": [4]}
    data = [files / "one.extxyz", files / "two.extxyz"]
    with pytest.raises(SettingsError, match=r"cannot tell calc modes apart, and there are 2 \(ONE, TWO\)"):
        run(settings(data, tmp_path / "c", potential=behler), SilentReporter())


def atom(z, energy, mode):
    return Frame(np.array([z]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool), energy, calc_mode=mode)


def pair(numbers, energy, mode):
    at = np.arange(3.0 * len(numbers)).reshape(-1, 3)
    return Frame(np.array(numbers), at, np.zeros((3, 3)), np.zeros(3, bool), energy, calc_mode=mode)


def test_references_of_each_mode(tmp_path):
    """Isolated atoms in one, least squares in the other; what a mode lacks comes from the mode nearest to it."""
    store = build_store(
        [
            *[atom(8, -1.0, "A"), atom(22, -2.0, "A"), pair([8, 22], -4.0, "A")],
            *[pair([8, 8], -22.0, "B"), pair([8, 22], -31.0, "B"), pair([22, 22], -40.0, "B")],
            pair([8, 8], -222.0, "C"),
        ],
        tmp_path / "s",
    )
    reporter = SilentReporter()
    got = references_by_mode(store, np.arange(7), ReferenceSettings(), reporter)
    assert got["A"] == {8: -1.0, 22: -2.0}
    assert got["B"] == pytest.approx({8: -11.0, 22: -20.0})
    assert got["C"] == pytest.approx({8: -111.0, 22: -20.0})
    (borrowed,) = [w for w in reporter.warnings if "are taken from" in w]
    assert borrowed.startswith("calc mode C has no energies with Ti: reference energies are taken from B")
    assert reference_sums(store, got).tolist() == pytest.approx([-1, -2, -3, -22, -31, -40, -222])
    fixed = ReferenceSettings(energies={"O": -3.0}, by_mode={"B": {"O": -12.0}})
    got = references_by_mode(store, np.arange(7), fixed)
    assert (got["A"][8], got["B"][8], got["C"][8]) == (-3.0, -12.0, -3.0)
    assert references_by_mode(store, np.arange(7), ReferenceSettings(), None, {"B": {8: 5.0, 22: 6.0}})["B"] == {
        8: 5.0,
        22: 6.0,
    }
    with pytest.raises(LabelError, match="by_mode names 'D'; modes there: A, B, C"):
        references_by_mode(store, np.arange(7), ReferenceSettings(by_mode={"D": {"O": 1.0}}))


def test_balanced_modes(tmp_path):
    of = ["A"] * 8 + ["B"] * 2
    store = build_store([atom(8, 0.0, mode) for mode in of], tmp_path / "s")
    ids = np.arange(10)
    assert mode_weights(store, ids, 1.0).tolist() == [1.0] * 10
    for power in (0.0, 0.5):
        w = mode_weights(store, ids, power)
        assert w.mean() == pytest.approx(1)
        assert w[:8].sum() / w[8:].sum() == pytest.approx(4**power)


@pytest.mark.slow
def test_new_elements_and_modes_in_a_trained_model(joint, tmp_path):
    """Nothing moves with a learning rate of almost 0: the old predictions are those of the old model."""
    write(tmp_path / "new.extxyz", frames(Method(0.5, 1.4, 1.5, (-75.0, -990.0)), 12, 5, "THREE", kinds=(8, 14)))
    still = {"name": "sgd", "learning_rate": 1e-30}
    reporter = SilentReporter()
    how = settings(tmp_path / "new.extxyz", tmp_path / "run", start_from=joint[0].model, epochs=1, optimizer=still)
    result = run(how, reporter)
    old, new = load_model(joint[0].model), load_model(result.model)
    assert new.modes == ("ONE", "TWO", "THREE")
    assert new.info.elements == new.potentials[0].elements == (8, 14, 22)
    assert any("grown by Si, calc mode THREE" in m for m in reporter.messages)
    images = frames(ONE, 3, 7)
    for mode in ("ONE", "TWO"):
        p, q = old.evaluate(images, mode=mode), new.evaluate(images, mode=mode)
        torch.testing.assert_close(q.energy, p.energy, rtol=1e-12, atol=0)
        torch.testing.assert_close(q.forces, p.forces, rtol=0, atol=1e-12)
    e0 = new.potentials[0].reference.by_element(2)
    assert [e0[8], e0[14]] == pytest.approx([-75.0, -990.0], abs=30)
    assert any(e.part == "valid" for e in result.before)
    write(tmp_path / "bare.extxyz", frames(ONE, 4, 8))
    with pytest.raises(ModeError, match=r"the data name no calc mode and .* knows ONE, TWO"):
        run(settings(tmp_path / "bare.extxyz", tmp_path / "no", start_from=joint[0].model), SilentReporter())


@pytest.mark.slow
def test_behler_takes_no_new_elements(files, tmp_path):
    behler = {"name": "behler", "hidden": [4]}
    first = run(settings(files / "one.extxyz", tmp_path / "a", potential=behler, epochs=1), SilentReporter())
    write(tmp_path / "si.extxyz", frames(ONE, 8, 5, "ONE", kinds=(8, 14)))
    write(tmp_path / "two.extxyz", frames(TWO, 8, 5, "TWO"))
    with pytest.raises(ElementError, match="does not know Si: train a new model"):
        run(
            settings(tmp_path / "si.extxyz", tmp_path / "b", start_from=first.model, potential=behler), SilentReporter()
        )
    with pytest.raises(SettingsError, match="cannot tell calc modes apart"):
        run(
            settings(tmp_path / "two.extxyz", tmp_path / "c", start_from=first.model, potential=behler),
            SilentReporter(),
        )
    write(tmp_path / "oxygen.extxyz", frames(ONE, 8, 6, "ONE", kinds=(8, 8)))  # fewer elements than the model knows
    fewer = settings(tmp_path / "oxygen.extxyz", tmp_path / "d", start_from=first.model, potential=behler, epochs=1)
    again = run(fewer, SilentReporter())
    assert load_model(again.model).info.elements == (8, 22)


@pytest.mark.slow
def test_replay_measures_forgetting(files, joint, tmp_path):
    write(tmp_path / "new.extxyz", frames(TWO, 8, 11, "TWO"))
    reporter = SilentReporter()
    more = {"start_from": joint[0].model, "replay": [files / "one.extxyz"], "replay_fraction": 0.4}
    result = run(settings(tmp_path / "new.extxyz", tmp_path / "run", **more), reporter)
    assert any("replay: 4 of 16 old frames are trained on with 6 new ones; forgetting is measured on 1 others" in m
               for m in reporter.messages)  # fmt: skip
    assert any(m.startswith("forgetting, on 1 replayed structures") and "→" in m for m in reporter.messages)
    before = {(e.part, e.quantity): e.rmse for e in result.before if e.frames == "all"}
    after = {(e.part, e.quantity): e.rmse for e in result.errors if e.frames == "all"}
    assert set(before) == {(p, q) for p in ("valid", "replay") for q in ("energy", "force", "force_vector")}
    assert before["replay", "force"] != after["replay", "force"]
    old = load_model(joint[0].model)
    held = tmp_path / "run" / "store"
    assert held.exists()
    every = [np.sqrt(((old.evaluate([a], mode="ONE").forces.numpy() - a.get_forces()) ** 2).mean())
             for a in read(files / "one.extxyz", ":")]  # fmt: skip
    assert min(abs(np.array(every) / before["replay", "force"] - 1)) < 1e-4  # it is one of the old frames


@pytest.mark.slow
def test_frozen_parameters_stay(joint, files, tmp_path):
    reporter = SilentReporter()
    more = {"start_from": joint[0].model, "freeze": ["embedding.*", "blocks.*"]}
    result = run(settings(files / "two.extxyz", tmp_path / "run", **more), reporter)
    old, new = (load_model(r.model).potentials[0].state_dict() for r in (joint[0], result))
    for name, value in old.items():
        frozen = name.startswith(("embedding.", "blocks.")) or "head" not in name
        assert torch.equal(new[name], value) == frozen, name
    assert any(m.startswith("frozen: embedding.element, embedding.mode, blocks.0.") for m in reporter.messages)
    with pytest.raises(SettingsError, match=r"freeze: 'nothing' fits no parameter; there are embedding\.element"):
        run(settings(files / "two.extxyz", tmp_path / "b", freeze=["nothing"]), SilentReporter())
    with pytest.raises(SettingsError, match="nothing remains"):
        run(settings(files / "two.extxyz", tmp_path / "c", freeze=["*"]), SilentReporter())


@pytest.mark.slow
def test_low_rank_updates_are_of_low_rank_and_merged(joint, files, tmp_path):
    reporter = SilentReporter()
    more = {"start_from": joint[0].model, "freeze": ["*"], "lora_rank": 2}
    result = run(settings(files / "two.extxyz", tmp_path / "run", **more), reporter)
    old, new = (load_model(r.model).potentials[0].state_dict() for r in (joint[0], result))
    assert old.keys() == new.keys()
    moved = 0
    for name, value in old.items():
        change = (new[name] - value).double()
        if value.ndim == 2 and min(value.shape) > 2 and "embedding" not in name:
            s = torch.linalg.svdvals(change)
            assert s[2] < 1e-5 * value.abs().max()
            moved += bool(s[1] > 1e-5)
        else:
            assert torch.equal(new[name], value), name
    assert moved >= 3
    assert any("parameters are trained" in m for m in reporter.messages)
    again = run(settings(files / "two.extxyz", tmp_path / "run", **more, epochs=3), reporter)  # goes on
    assert again.epochs == 3
