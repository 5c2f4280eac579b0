"""From labelled files to potentials and examples that are ready to be trained: what comes before the loop.

files -> store -> sides (training, validation, test, replayed) -> reference energies, statistics
      -> first potentials, one for each seed, scaled to the training set -> examples with their caches
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from rutile.core.errors import LabelError
from rutile.core.reporting import Reporter, SilentReporter
from rutile.data.checks import require_labels
from rutile.data.reading import read_frames, readings
from rutile.data.split import from_files, split
from rutile.data.statistics import mode_weights, references_by_mode, statistics
from rutile.data.store import Store, build_store
from rutile.potentials.catalogue import make
from rutile.potentials.checks import smoothness_note
from rutile.potentials.parts.network import TrainablePotential
from rutile.potentials.potential import DescriptorPotential
from rutile.train.examples import DTYPES, GraphExamples, LinearisedExamples, make_examples, mode_name
from rutile.train.settings import JobSettings
from rutile.train.start import Energies, adapt, check_modes, loaded, replay, say_statistics

Sides = dict[str, GraphExamples] | dict[str, LinearisedExamples]
STORE, CACHE = "store", "cache"


@dataclass(frozen=True)
class Job:
    """Potentials at the start of their training, and what they are trained on."""

    store: Store
    """All frames."""
    examples: Sides
    """Of "train", and of "valid", "test" and "replay" where there are any."""
    potentials: list[TrainablePotential]
    """One for each seed, without reference energies: those are taken off the labels."""
    references: Energies
    """Energies of isolated atoms, to be given to the trained potentials."""


def prepare(settings: JobSettings, seeds: Sequence[int], out: Path, reporter: Reporter) -> Job:
    """Read, divide and scale.

    Args:
        settings: what to train on what.
        seeds: of the first weights, one for each potential.
        out: folder that gets the store of the frames and the caches; must exist.
        reporter: hears what there is to learn from, and what is replayed, grown, frozen.

    Raises:
        LabelError: no frame has a label that the loss asks for.
        ModeError: some frames name their calc mode and others do not.
        SettingsError: the stored model does not fit the settings or the data; see `start.loaded`.
    """
    store = _read(settings, out, reporter)
    sides = _divide(store, settings, reporter)
    potentials, references, scale = _potentials(settings, store, sides["train"], list(seeds), reporter)
    if note := smoothness_note(potentials[0]):
        reporter.warn(note)
    for potential in potentials:
        potential.set_reference_energies(dict.fromkeys(potential.elements, 0.0))
    examples = make_examples(
        store,
        sides,
        potentials[0],
        references={mode: references[mode_name(potentials[0].modes, mode)] for mode in store.calc_modes},
        dtype=DTYPES[settings.precision],
        folder=out / CACHE,
        memory=settings.cache_memory,
        reporter=reporter,
    )
    if settings.mode_balance != 1:
        examples["train"].weights *= torch.from_numpy(mode_weights(store, sides["train"], settings.mode_balance))
    if scale is not None:
        _scale(potentials, examples["train"], scale)
    for potential, seed in zip(potentials, seeds, strict=True):
        potential.to(DTYPES[settings.precision])
        adapt(potential, settings.freeze, settings.lora_rank, seed, reporter if seed == seeds[0] else SilentReporter())
    return Job(store, examples, potentials, references)


def _read(settings: JobSettings, out: Path, reporter: Reporter) -> Store:
    """The frames of all files as a store in the run's folder.

    Raises:
        LabelError: no frame has a label that the loss asks for.
        ModeError: some frames name their calc mode and others do not.
    """
    folder = out / STORE
    if folder.exists():
        Store.open(folder)  # refuses to remove what is no store
        shutil.rmtree(folder)
    extra = (*settings.split.valid_files, *settings.split.test_files)
    paths = list(dict.fromkeys([*settings.data, *extra, *settings.replay]))
    store = build_store(read_frames(paths, settings.read, reporter), folder, reporter)
    check_modes(store)
    _require_labels(store, settings, paths)
    return store


def _require_labels(store: Store, settings: JobSettings, paths: list[Path]) -> None:
    terms = {"energy": settings.loss.energy, "forces": settings.loss.force, "stress": settings.loss.virial}
    found = {label: int(store.array(f"has_{label}").sum()) for label in terms}
    absent = [label for label, term in terms.items() if term.active and found[label] == 0]
    if not absent:
        return
    keys = next(iter(readings(paths, settings.read))).keys
    wanted = {label: label in absent for label in terms}
    try:
        require_labels(found, len(store), keys, place=", ".join(map(str, paths)), **wanted)
    except LabelError as error:
        names = {"energy": "energy", "forces": "force", "stress": "virial"}
        switch = " ".join(f"loss.{names[label]}.start=0" for label in absent)
        raise LabelError(f"{error}; or train without it: {switch}") from None


def _divide(store: Store, settings: JobSettings, reporter: Reporter) -> dict[str, np.ndarray]:
    """Frames of each part that has any."""
    if settings.replay:
        old = from_files(store, settings.replay)
        sides = split(store, settings.split, settings.seed, reporter, old)
        sides = replay(store, sides, old, settings.replay_fraction, settings.seed, reporter)
    else:
        sides = split(store, settings.split, settings.seed, reporter)
    if settings.force_limit is not None:
        forces, offsets = store.array("forces"), store.array("offsets")
        largest = np.array([np.abs(forces[offsets[k] : offsets[k + 1]]).max() for k in sides["train"]])
        out = sides["train"][largest > settings.force_limit]
        if len(out):
            listed = ", ".join(store.source(int(k)) for k in out)
            reporter.warn(
                f"{len(out)} frames with forces above {settings.force_limit:g} eV/Å are not trained on: {listed}"
            )
        sides["train"] = np.setdiff1d(sides["train"], out)
    return {name: ids for name, ids in sides.items() if len(ids)}


def _potentials(
    settings: JobSettings, store: Store, train: np.ndarray, seeds: list[int], reporter: Reporter
) -> tuple[list[TrainablePotential], Energies, float | None]:
    """The members, the reference energies, and the energy scale (None for those of a loaded model)."""
    if settings.start_from is not None:
        return *loaded(settings.start_from, store, train, seeds, settings.references, reporter), None
    references = references_by_mode(store, train, settings.references, reporter)
    s = statistics(store, train, references)
    say_statistics(s, "training data", reporter)
    if len(store.calc_modes) > 1:
        of = store.array("mode")[train]
        for m, mode in enumerate(store.calc_modes):
            say_statistics(statistics(store, train[of == m], references), f"calc mode {mode}", reporter)
    scale = float(np.nanmax([s.energy_std, 0.1 * s.force_rms, 1e-3]))  # eV per atom; forces over 0.1 Angstrom
    return [make(settings.potential, store.elements, seed, store.calc_modes) for seed in seeds], references, scale


def _scale(potentials: list[TrainablePotential], train: GraphExamples | LinearisedExamples, scale: float) -> None:
    """Scale descriptors and energies by the statistics of the training set."""
    for potential in potentials:
        potential.set_energy_scale(scale)
        if isinstance(train, LinearisedExamples):
            cast("DescriptorPotential", potential).fit_scaling(train.descriptors())
        else:
            potential.learn_statistics(train.graphs())
