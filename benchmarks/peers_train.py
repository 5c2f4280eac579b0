"""A peer's side of accuracy_per_time.py: trains it by its own tools and tests it; does nothing without arguments.

    $PEERS/<peer>/bin/python benchmarks/peers_train.py PEER[:variant] DATA OUT SECONDS THREADS

Runs in the environment of the peer; needs only numpy and ase beside it. `DATA` holds train, valid and test.extxyz
(and more test files), with energies relative to isolated atoms. All peers: float32, batches of 5, cutoff 5 Å, and as
many epochs as fit into the time by a probe, so that the learning rate can fall to a hundredth of its first value over
the run. Everything else is the default of their tools, or stated here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read

BATCH, CUTOFF, LAST = 5, 5.0, 0.01


def main(model: str, data: Path, out: Path, seconds: float, threads: int) -> None:
    """Train one peer, write results.json."""
    peer, _, variant = model.partition(":")
    calculator, record = PEERS[peer](variant, data, out, seconds, threads)
    write_record(calculator, record, data, out)


def write_record(calculator: Any, record: dict[str, Any], data: Path, out: Path) -> None:
    """Errors of the calculator on all frames that it was not trained on, with what is known of the training."""
    others = sorted(path for path in data.glob("*.extxyz") if path.stem != "train")
    errors = {path.stem: evaluate(calculator, read(path, ":")) for path in others}
    (out / "results.json").write_text(json.dumps(record | errors) + "\n")


def evaluate(calculator: Any, frames: list[Atoms]) -> dict[str, float]:
    """MAE and RMSE of the energy (meV/atom) and of force components (meV/Å), through ASE."""
    from ase.calculators.calculator import all_changes

    energies, forces = [], []
    for frame in frames:
        calculator.results = {}
        bare = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
        calculator.calculate(bare, ["energy", "forces"], all_changes)
        energies.append((float(calculator.results["energy"]) - frame.get_potential_energy()) / len(frame))
        forces.append(np.asarray(calculator.results["forces"]) - frame.get_forces())
    e, f = 1e3 * np.array(energies), 1e3 * np.concatenate(forces)
    return {
        "E_mae": round(float(abs(e).mean()), 2), "E_rmse": round(float((e**2).mean() ** 0.5), 2),
        "F_mae": round(float(abs(f).mean()), 1), "F_rmse": round(float((f**2).mean() ** 0.5), 1),
    }  # fmt: skip


def elements(data: Path) -> list[str]:
    """Elements of the training frames, by atomic number."""
    from ase.data import chemical_symbols

    numbers = {int(z) for frame in read(data / "train.extxyz", ":") for z in frame.numbers}
    return [chemical_symbols[z] for z in sorted(numbers)]


def planned(seconds: float, per_epoch: float) -> int:
    """Epochs that fit."""
    return max(2, int(seconds / per_epoch))


class Stopwatch:
    """Seconds since it was made. With one thread those of the processor, which other work does not stretch."""

    def __init__(self, threads: int) -> None:
        self.threads, self.began, self.used = threads, time.monotonic(), sum(os.times()[:4])

    def seconds(self) -> float:
        """So far, of this process and of those that it started and that have ended."""
        return sum(os.times()[:4]) - self.used if self.threads == 1 else time.monotonic() - self.began

    def share(self) -> float:
        """Part of the time on the clock that the processor worked for this; 1 with several threads."""
        return min(1.0, self.seconds() / (time.monotonic() - self.began))


def mace(variant: str, data: Path, out: Path, seconds: float, threads: int) -> tuple[Any, dict[str, Any]]:
    """`mace_run_train` with exponential moving average; learning rate 0.01 (its default)."""
    from ase.data import atomic_numbers

    zero = ",".join(f"{atomic_numbers[e]}:0.0" for e in elements(data))

    def run(name: str, epochs: int) -> float:
        words = {
            "name": name, "work_dir": out, "model_dir": out, "train_file": data / "train.extxyz",
            "valid_file": data / "valid.extxyz", "energy_key": "energy", "forces_key": "forces",
            "E0s": f"{{{zero}}}", "hidden_irreps": variant, "r_max": CUTOFF, "batch_size": BATCH,
            "valid_batch_size": 10, "max_num_epochs": epochs, "default_dtype": "float32", "device": "cpu",
            "ema_decay": 0.99, "seed": 1, "scheduler": "ExponentialLR", "lr_scheduler_gamma": LAST ** (1 / epochs),
            "error_table": "PerAtomMAE",
        }  # fmt: skip
        command = [str(Path(sys.executable).parent / "mace_run_train"), "--ema"]
        for key, value in words.items():
            command += [f"--{key}", str(value)]
        watch = Stopwatch(threads)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        share = watch.share()
        log = done.stdout + done.stderr
        stamps = re.findall(r"(\d\d):(\d\d):(\d\d)\.\d+ INFO: (?:Epoch|Initial)", log)
        at = [int(h) * 3600 + int(m) * 60 + int(s) for h, m, s in stamps]
        return share * ((at[-1] - at[0]) % 86400)

    epochs = planned(seconds, max(1.0, run("probe", 1)))
    trained = round(run("run", epochs), 1)
    from mace.calculators import MACECalculator

    calculator = MACECalculator(model_paths=str(out / "run.model"), device="cpu", default_dtype="float32")
    return calculator, {"epochs": epochs, "train_s": trained}


def nequip(variant: str, data: Path, out: Path, seconds: float, threads: int) -> tuple[Any, dict[str, Any]]:
    """`nequip-train`: 3 layers of 32, l 1, Adam at 0.01 with exponential moving average."""
    config = nequip_config(data)

    def run(name: str, epochs: int, batches: float) -> float:
        folder = out / name
        folder.mkdir()
        gamma = LAST ** (1 / epochs)
        text = json.dumps(config).replace('"@EPOCHS"', str(epochs)).replace('"@GAMMA"', str(gamma))
        (folder / "nequip.yaml").write_text(text.replace('"@BATCHES"', str(batches)))
        command = [
            str(Path(sys.executable).parent / "nequip-train"), "-cp", str(folder), "-cn", "nequip.yaml",
            f"hydra.run.dir={folder}", "hydra.job.chdir=true",
        ]  # fmt: skip
        watch = Stopwatch(threads)
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
        return watch.seconds()

    start = run("start", 1, 1)
    epochs = planned(seconds, run("probe", 1, 1.0) - start)
    trained = run("run", epochs, 1.0) - start
    from nequip.integrations.ase import NequIPCalculator

    checkpoint = next((out / "run").rglob("best*.ckpt"))
    calculator = NequIPCalculator._from_saved_model(
        str(checkpoint), device="cpu", chemical_species_to_atom_type_map=True
    )
    return calculator, {"epochs": epochs, "train_s": round(trained, 1)}


def nequip_config(data: Path) -> dict[str, Any]:
    """Configuration of nequip-train; JSON is YAML."""
    names = elements(data)
    transforms = [
        {"_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper", "model_type_names": names},
        {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": CUTOFF},
    ]
    loader = {"_target_": "torch.utils.data.DataLoader", "batch_size": BATCH, "num_workers": 0}
    metrics = {
        "_target_": "nequip.train.EnergyForceMetrics",
        "coeffs": {"per_atom_energy_mae": 1.0, "forces_mae": 1.0},
    }
    best = {
        "_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "monitor": "val0_epoch/weighted_sum",
        "dirpath": ".", "filename": "best",
    }  # fmt: skip
    return {
        "run": ["train"], "cutoff_radius": CUTOFF, "model_type_names": names, "chemical_species": names,
        "monitored_metric": "val0_epoch/weighted_sum",
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule", "seed": 1,
            "train_file_path": str(data / "train.extxyz"), "val_file_path": str(data / "valid.extxyz"),
            "transforms": transforms, "train_dataloader": loader | {"shuffle": True},
            "val_dataloader": loader | {"batch_size": 10},
            "stats_manager": {
                "_target_": "nequip.data.CommonDataStatisticsManager", "dataloader_kwargs": {"batch_size": 10},
                "type_names": names,
            },
        },
        "trainer": {
            "_target_": "lightning.Trainer", "accelerator": "cpu", "enable_progress_bar": False,
            "max_epochs": "@EPOCHS", "limit_train_batches": "@BATCHES", "limit_val_batches": "@BATCHES",
            "logger": {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": ".", "name": "csv"},
            "callbacks": [best],
        },
        "training_module": {
            "_target_": "nequip.train.EMALightningModule", "ema_decay": 0.99,
            "loss": {
                "_target_": "nequip.train.EnergyForceLoss", "per_atom_energy": True,
                "coeffs": {"total_energy": 1.0, "forces": 1.0},
            },
            "val_metrics": metrics, "train_metrics": metrics, "test_metrics": metrics,
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
            "lr_scheduler": {
                "scheduler": {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": "@GAMMA"},
                "interval": "epoch", "frequency": 1,
            },
            "model": {
                "_target_": "nequip.model.NequIPGNNModel", "seed": 1, "model_dtype": "float32", "type_names": names,
                "r_max": CUTOFF, "num_layers": 3, "l_max": 1, "parity": True, "num_features": 32,
                "radial_mlp_depth": 1, "radial_mlp_width": 128,
                "avg_num_neighbors": "${training_data_stats:num_neighbors_mean}",
                "per_type_energy_scales": "${training_data_stats:per_type_forces_rms}",
                "per_type_energy_shifts": dict.fromkeys(names, 0.0),
            },
        },
    }  # fmt: skip


def schnetpack(variant: str, data: Path, out: Path, seconds: float, threads: int) -> tuple[Any, dict[str, Any]]:
    """PaiNN 128/3 with SchNetPack's task and Lightning's trainer; AdamW at 0.001, energies 0.01 and forces 0.99."""
    import torch
    from torch.utils.data import dataloader

    if not hasattr(dataloader, "T_co"):  # schnetpack 2.1.1 imports a name that torch 2.13 has no more
        import typing

        dataloader.T_co = typing.TypeVar("T_co", covariant=True)
    import pytorch_lightning as lightning
    import schnetpack as spk
    import schnetpack.transform as transform
    import torchmetrics
    from schnetpack.data import ASEAtomsData, AtomsDataModule
    from schnetpack.interfaces import SpkCalculator

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    units = {"energy": "eV", "forces": "eV/Ang"}
    sides = {name: read(data / f"{name}.extxyz", ":") for name in ("train", "valid")}
    frames = [frame for side in sides.values() for frame in side]
    base = ASEAtomsData.create(
        str(out / "data.db"), distance_unit="Ang", property_unit_dict=units, atomrefs={"energy": [0.0] * 100}
    )
    labels = [{"energy": np.array([f.get_potential_energy()]), "forces": f.get_forces()} for f in frames]
    base.add_systems(labels, [Atoms(f.numbers, f.positions, cell=f.cell, pbc=f.pbc) for f in frames])
    n, total = len(sides["train"]), len(frames)
    np.savez(out / "split.npz", train_idx=np.arange(n), val_idx=np.arange(n, total), test_idx=np.array([], dtype=int))
    module = AtomsDataModule(
        str(out / "data.db"), batch_size=BATCH, num_train=n, num_val=total - n, split_file=str(out / "split.npz"),
        num_workers=0, distance_unit="Ang", property_units=units,
        transforms=[
            transform.CachedNeighborList(str(out / "neighbors"), transform.MatScipyNeighborList(cutoff=CUTOFF)),
            transform.RemoveOffsets("energy", remove_mean=True, remove_atomrefs=True), transform.CastTo32(),
        ],
    )  # fmt: skip
    module.prepare_data()
    module.setup()

    def fit(epochs: int, folder: Path) -> tuple[float, int]:
        torch.manual_seed(1)
        model = spk.model.NeuralNetworkPotential(
            spk.representation.PaiNN(128, 3, spk.nn.GaussianRBF(20, CUTOFF), spk.nn.CosineCutoff(CUTOFF)),
            input_modules=[spk.atomistic.PairwiseDistances()],
            output_modules=[spk.atomistic.Atomwise(128, output_key="energy"), spk.atomistic.Forces()],
            postprocessors=[transform.CastTo64(), transform.AddOffsets("energy", add_mean=True, add_atomrefs=True)],
        )
        task = spk.task.AtomisticTask(
            model,
            [output(spk, torchmetrics, torch, "energy", 0.01), output(spk, torchmetrics, torch, "forces", 0.99)],
            optimizer_cls=torch.optim.AdamW, optimizer_args={"lr": 1e-3},
            scheduler_cls=torch.optim.lr_scheduler.ExponentialLR, scheduler_args={"gamma": LAST ** (1 / epochs)},
            scheduler_monitor="val_loss",
        )  # fmt: skip
        best = spk.train.ModelCheckpoint(
            model_path=str(folder / "best"), save_top_k=1, monitor="val_loss", dirpath=str(folder)
        )
        trainer = lightning.Trainer(
            max_epochs=epochs, callbacks=[best], logger=False, enable_progress_bar=False, accelerator="cpu",
            default_root_dir=str(folder), inference_mode=False,
        )  # fmt: skip
        watch = Stopwatch(threads)
        trainer.fit(task, datamodule=module)
        return watch.seconds(), sum(p.numel() for p in model.parameters())

    fit(1, out / "neighbors_made")
    epochs = planned(seconds, fit(1, out / "probe")[0])
    trained, parameters = fit(epochs, out / "run")
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    calculator = SpkCalculator(
        str(out / "run" / "best"), neighbor_list=transform.MatScipyNeighborList(cutoff=CUTOFF), energy_unit="eV",
        dtype=torch.float32,
    )  # fmt: skip
    return calculator, {"epochs": epochs, "train_s": round(trained, 1), "params": parameters}


def output(spk: Any, torchmetrics: Any, torch: Any, name: str, weight: float) -> Any:
    """A term of SchNetPack's loss."""
    return spk.task.ModelOutput(
        name=name, loss_fn=torch.nn.MSELoss(), loss_weight=weight, metrics={"mae": torchmetrics.MeanAbsoluteError()}
    )


def matgl(variant: str, data: Path, out: Path, seconds: float, threads: int) -> tuple[Any, dict[str, Any]]:
    """TensorNet 64/2 with matgl's trainer; learning rate 0.002 on a cosine."""
    import torch

    torch.set_num_threads(threads)
    os.chdir(out)
    from matgl.ext.ase import PESCalculator
    from matgl.models import TensorNet
    from matgl.utils.training import MGLDatasetLoader, MGLPotentialTrainer

    names = tuple(elements(data))
    files = {"train": "train.extxyz", "valid": "valid.extxyz", "test": "valid.extxyz"}
    sets = {
        k: MGLDatasetLoader.from_extxyz(data / f, cutoff=CUTOFF, element_types=names, root=str(out / k))
        for k, f in files.items()
    }
    forces = np.concatenate([frame.get_forces() for frame in read(data / "train.extxyz", ":")])

    def fit(epochs: int) -> tuple[float, Any]:
        torch.manual_seed(1)
        model = TensorNet(element_types=names, units=64, nblocks=2, cutoff=CUTOFF, is_intensive=False)
        trainer = MGLPotentialTrainer(
            model, stress_weight=0.0, data_std=float(np.sqrt((forces**2).mean())), lr=2e-3, decay_steps=epochs,
            decay_alpha=LAST, batch_size=BATCH, max_epochs=epochs, accelerator="cpu",
            trainer_kwargs={"logger": False, "enable_progress_bar": False, "enable_checkpointing": False},
            loader_kwargs={"num_workers": 0},
        )  # fmt: skip
        watch = Stopwatch(threads)
        potential = trainer.fit(sets, atomrefs=np.zeros(len(names)))
        return watch.seconds(), potential

    epochs = planned(seconds, fit(1)[0])
    trained, potential = fit(epochs)
    potential.calc_stresses = False
    parameters = sum(p.numel() for p in potential.parameters())
    return PESCalculator(potential.eval()), {"epochs": epochs, "train_s": round(trained, 1), "params": parameters}


PEERS: dict[str, Callable[..., tuple[Any, dict[str, Any]]]] = {
    "mace": mace, "nequip": nequip, "schnetpack": schnetpack, "matgl": matgl
}  # fmt: skip


if __name__ == "__main__" and len(sys.argv) == 6:
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
