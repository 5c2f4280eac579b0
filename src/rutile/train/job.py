"""From labelled files to potentials and examples that are ready to be trained: what comes before the loop.

files -> store -> sides (training, validation, test, replayed) -> reference energies, statistics
      -> first potentials, one for each seed, scaled to the training set -> examples with their caches
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from rutile.core.errors import FileError, LabelError, SettingsError
from rutile.core.files import remove_folder
from rutile.core.reporting import Reporter, SilentReporter
from rutile.data.checks import require_labels
from rutile.data.making import is_much, make_store
from rutile.data.reading import read_frames, readings
from rutile.data.settings import ReadSettings
from rutile.data.split import from_files, split
from rutile.data.statistics import largest_forces, mode_weights, references_by_mode, statistics
from rutile.data.store import Store, build_store, is_store
from rutile.potentials.catalogue import make
from rutile.potentials.checks import smoothness_note
from rutile.potentials.parts.dense import require_products
from rutile.potentials.parts.network import TrainablePotential
from rutile.potentials.potential import DescriptorPotential
from rutile.potentials.settings.stored import stored_members
from rutile.structures.surroundings import Surroundings
from rutile.train.caches import Room
from rutile.train.examples import DTYPES, GraphExamples, LinearisedExamples, make_examples, mode_name
from rutile.train.loggers import require_loggers
from rutile.train.parallel import team
from rutile.train.settings import JobSettings
from rutile.train.start import Energies, adapt, check_modes, loaded, replay, say_statistics

Sides = dict[str, GraphExamples] | dict[str, LinearisedExamples]
STORE, CACHE = "store", "cache"
MOST_LOOKED_AT = 20_000
"""Structures whose surroundings are noted in the model: some 10 s."""
LISTED = 100
"""Most frames that a warning names."""


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

    def surroundings(self) -> Surroundings:
        """What atoms have around them in the structures that are trained on, or in `MOST_LOOKED_AT` evenly chosen."""
        ids = self.examples["train"].ids
        if len(ids) > MOST_LOOKED_AT:
            ids = ids[np.linspace(0, len(ids) - 1, MOST_LOOKED_AT).astype(int)]
        return Surroundings.of(self.store[k] for k in ids)


def prepare(
    settings: JobSettings, seeds: Sequence[int], out: Path, reporter: Reporter, store: Store | None = None
) -> Job:
    """Read, divide and scale.

    Args:
        settings: what to train on what.
        seeds: of the first weights, one for each potential.
        out: folder that gets the store of the frames and the caches; must exist.
        reporter: hears what there is to learn from, and what is replayed, grown, frozen.
        store: of the frames, if it is made already.

    Raises:
        LabelError: no frame has a label that the loss asks for.
        ModeError: some frames name their calc mode and others do not.
        SettingsError: the stored model does not fit the settings or the data; see `start.loaded`.
        SettingsError: the device cannot be used, or matrix products cannot be rounded.
        MissingPackageError: a logger is asked for whose package is not installed.
    """
    require_loggers(settings)
    device = team().place(settings.device)
    store = _read(settings, out, reporter) if store is None else store
    sides = _divide(store, settings, reporter)
    potentials, references, scale = _potentials(settings, store, sides["train"], list(seeds), reporter)
    require_products(potentials[0], settings.matmul, device)
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
        room=Room(out / CACHE, settings.cache_memory, settings.cache_disk),
        reporter=reporter,
    )
    if settings.replay and settings.replay_weight != 1:
        old = torch.from_numpy(from_files(store, settings.replay)[sides["train"]])
        examples["train"].weights[old] *= settings.replay_weight
    if settings.mode_balance != 1:
        examples["train"].weights *= torch.from_numpy(mode_weights(store, sides["train"], settings.mode_balance))
    if scale is not None:
        _scale(potentials, examples["train"], scale)
    for potential, seed in zip(potentials, seeds, strict=True):
        potential.to(DTYPES[settings.precision])
        adapt(potential, settings.freeze, settings.lora_rank, seed, reporter if seed == seeds[0] else SilentReporter())
    return Job(store, examples, potentials, references)


def _read(settings: JobSettings, out: Path, reporter: Reporter) -> Store:
    """The frames of all files as a store in the run's folder; a store that holds them all is read where it is.

    Raises:
        LabelError: no frame has a label that the loss asks for.
        ModeError: some frames name their calc mode and others do not.
        SettingsError: something is asked for that a store does not allow.
        FileError: a file or store cannot be read, or the run's folder cannot be written.
    """
    extra = (*settings.split.valid_files, *settings.split.test_files)
    paths = list(dict.fromkeys([*settings.data, *extra, *settings.replay]))
    store = _in_place(settings, paths)
    if store is None:
        folder = out / STORE
        if any(path.resolve() == folder.resolve() for path in paths):
            raise FileError(f"{folder} would be replaced by the store of this run: choose another out=")
        if folder.exists():
            if not is_store(folder):
                raise FileError(f"{folder} is no store; the store of this run belongs there: choose another out=")
            remove_folder(folder)
        if is_much(paths, settings.read):
            store, _ = make_store(paths, folder, settings.read, reporter)
        else:
            store = build_store(read_frames(paths, settings.read, reporter), folder, reporter)
    check_modes(store)
    _require_labels(store, settings, paths)
    return store


def _in_place(settings: JobSettings, paths: list[Path]) -> Store | None:
    """The store that is the only data, if all other paths are among the files that it was made from."""
    if chosen := [path for path in (*settings.split.valid_files, *settings.split.test_files) if is_store(path)]:
        raise SettingsError(f"split: {chosen[0]} is a store; name the files that its frames came from")
    stores = [path for path in settings.data if is_store(path)]
    if stores and settings.read != ReadSettings():
        raise SettingsError(f"read: the labels of the store {stores[0]} were chosen when it was made; leave out read")
    if len(stores) != 1 or len(settings.data) != 1:
        return None
    store = Store.open(stores[0])
    others = [path for path in paths if path != stores[0]]
    return store if all(not is_store(path) and from_files(store, [path]).any() for path in others) else None


def _require_labels(store: Store, settings: JobSettings, paths: list[Path]) -> None:
    terms = {"energy": settings.loss.energy, "forces": settings.loss.force, "stress": settings.loss.virial}
    found = {label: int(store.array(f"has_{label}").sum()) for label in terms}
    absent = [label for label, term in terms.items() if term.active and found[label] == 0]
    if not absent:
        return
    files = [path for path in paths if not is_store(path)]
    keys = next(iter(readings(files, settings.read))).keys if files else frozenset()
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
        out = sides["train"][largest_forces(store, sides["train"]) > settings.force_limit]
        if len(out):
            listed = ", ".join(store.source(int(k)) for k in out[:LISTED])
            more = f" and {len(out) - LISTED} more" if len(out) > LISTED else ""
            reporter.warn(
                f"{len(out)} frames with forces above {settings.force_limit:g} eV/Å are not trained on: {listed}{more}"
            )
        sides["train"] = np.setdiff1d(sides["train"], out)
    return {name: ids for name, ids in sides.items() if len(ids)}


def _potentials(
    settings: JobSettings, store: Store, train: np.ndarray, seeds: list[int], reporter: Reporter
) -> tuple[list[TrainablePotential], Energies, float | None]:
    """The members, the reference energies, and the energy scale (None for those of a loaded model)."""
    if settings.start_from is not None:
        _require_same_architecture(settings, settings.start_from)
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


def _require_same_architecture(settings: JobSettings, path: Path) -> None:
    """Refuse another potential than the stored one.

    Raises:
        SettingsError: names both.
    """
    asked = settings.potential.name
    for stored in stored_members(path):
        if asked != stored and "potential" in settings.model_fields_set:
            raise SettingsError(f"start_from={path} is {stored!r}, not {asked!r}: leave `potential` out, or train anew")


def _scale(potentials: list[TrainablePotential], train: GraphExamples | LinearisedExamples, scale: float) -> None:
    """Scale descriptors and energies by the statistics of the training set."""
    for potential in potentials:
        potential.set_energy_scale(scale)
        if isinstance(train, LinearisedExamples):
            cast("DescriptorPotential", potential).fit_scaling(train.descriptors())
        else:
            potential.learn_statistics(train.graphs())
