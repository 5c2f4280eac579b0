"""Where training begins when it does not begin from nothing: a stored model, grown by what the new data bring.

And what may be done with its parameters: freezing some by name, low-rank updates instead of whole matrices.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from rutile.core.elements import symbol
from rutile.core.errors import ElementError, ModeError, SettingsError
from rutile.core.reporting import Reporter
from rutile.core.seeds import integer, stream
from rutile.data.settings import ReferenceSettings
from rutile.data.statistics import Statistics, references_by_mode
from rutile.data.store import Store
from rutile.potentials.grow import grown
from rutile.potentials.modes import listed
from rutile.potentials.parts.lora import add_low_rank
from rutile.potentials.parts.network import TrainablePotential
from rutile.potentials.save import load_model

Row = dict[str, float]
Energies = dict[str, dict[int, float]]
"""Energies of isolated atoms (eV), by calc mode of the potential and atomic number."""


def check_modes(store: Store) -> None:
    """Refuse data of which some frames name their calc mode and others do not.

    Raises:
        ModeError: names the first frame that does not.
    """
    if len(store.calc_modes) < 2 or "" not in store.calc_modes:
        return
    nameless = np.flatnonzero(store.array("mode") == store.calc_modes.index(""))
    others = listed([mode for mode in store.calc_modes if mode])
    raise ModeError(
        f"{len(nameless)} frames (first: {store.source(int(nameless[0]))}) name no calc mode, others are of {others}: "
        "name it with read.modes={FILE: NAME}, or say read.mode_key=none if all are of one reference method"
    )


def say_statistics(s: Statistics, what: str, reporter: Reporter) -> None:
    """Say what there is to learn from."""
    names = ", ".join(f"{n} {symbol(z)}" for z, n in s.atoms.items() if n)
    reporter.info(
        f"{what}: {s.n_frames} frames, {s.n_atoms} atoms ({names}); {s.n_energy} energies, {s.n_forces} with "
        f"forces, {s.n_stress} with stress; force RMS {s.force_rms:.3g}, largest {s.force_max:.3g} eV/Å"
    )


def loaded(
    path: Path,
    store: Store,
    train: np.ndarray,
    seeds: Sequence[int],
    settings: ReferenceSettings,
    reporter: Reporter,
) -> tuple[list[TrainablePotential], Energies]:
    """Members of a stored model, grown to the elements and calc modes of the data, and their reference energies.

    Args:
        path: of the model.
        store: the data.
        train: frames to train on: reference energies of what is new are found in them.
        seeds: one for each member.
        settings: where reference energies come from.
        reporter: hears what was grown.

    Raises:
        SettingsError: another number of members, new modes that the potential cannot tell apart, or a potential that
            cannot be trained.
        ElementError: a new element, and the potential is tied to its elements.
        ModeError: it is not clear which of the modes of the model the data are of, or which of the data the model is.
    """
    model = load_model(path)
    if len(model.potentials) != len(seeds):
        raise SettingsError(f"{path} has {len(model.potentials)} members: say members={len(model.potentials)}")
    potentials = cast("list[TrainablePotential]", model.potentials)
    old = potentials[0]
    if old.frozen:
        raise SettingsError(f"this model cannot be trained: {old.frozen}")
    new_elements = [z for z in store.elements if z not in old.elements]
    new_modes = _new_modes(path, old, store)
    try:
        begun = [
            grown(potential, new_elements, new_modes, torch.Generator().manual_seed(integer(seed, "grow")))
            for potential, seed in zip(potentials, seeds, strict=True)
        ]
    except ElementError:
        names = ", ".join(map(symbol, new_elements))
        raise ElementError(f"{path} does not know {names}: train a new model") from None
    reporter.info(f"begins with the weights of {path}")
    if new_elements or new_modes:
        names = ", ".join([*map(symbol, new_elements), *(f"calc mode {mode}" for mode in new_modes)])
        reporter.info(f"grown by {names}; what the model says about the rest stays as it was until it is trained")
    if begun[0].modes == ("",) and store.calc_modes[0]:
        for potential in begun:
            potential.modes = store.calc_modes
    return begun, _references(old, begun[0], store, train, settings, reporter)


def _new_modes(path: Path, old: TrainablePotential, store: Store) -> list[str]:
    """Calc modes of the data that the model does not know."""
    if store.calc_modes == ("",):
        if len(old.modes) > 1:
            raise ModeError(
                f"the data name no calc mode and {path} knows {listed(old.modes)}: say read.modes={{FILE: NAME}}"
            )
        return []
    if old.modes == ("",):
        if len(store.calc_modes) > 1:
            raise ModeError(f"{path} names no calc mode: it is not clear which of {listed(store.calc_modes)} it knows")
        return []
    return [mode for mode in store.calc_modes if mode not in old.modes]


def _references(
    old: TrainablePotential,
    new: TrainablePotential,
    store: Store,
    train: np.ndarray,
    settings: ReferenceSettings,
    reporter: Reporter,
) -> Energies:
    """The model's reference energies, and those of new elements and modes from the data."""
    kept = {mode: old.reference.by_element(m) for m, mode in enumerate(old.modes)}
    if len(new.modes) == 1:
        kept = {new.modes[0]: kept[old.modes[0]]}  # it may have got its name from the data
    if set(store.elements) <= set(old.elements) and new.modes == tuple(kept):
        return kept
    named = kept if store.calc_modes != ("",) else {"": kept[new.modes[0]]}
    found = references_by_mode(store, train, settings, reporter, named)
    fresh = found if store.calc_modes != ("",) else {new.modes[0]: found[""]}
    out = {mode: kept.get(mode, {}) | fresh.get(mode, {}) for mode in new.modes}
    for mode, energies in out.items():
        for z in new.elements:
            if z not in energies:  # a mode that the data do not hold, an element that they do
                energies[z] = next(other[z] for other in [*fresh.values(), *out.values()] if z in other)
                reporter.warn(f"calc mode {mode} has no energies with {symbol(z)}: its reference energy is borrowed")
    return out


def replay(
    store: Store,
    sides: dict[str, np.ndarray],
    old: np.ndarray,
    fraction: float,
    seed: int,
    reporter: Reporter,
) -> dict[str, np.ndarray]:
    """The sides of a split with old frames among those to train on, and others, side "replay", to measure forgetting.

    Args:
        store: new and old frames.
        sides: of the new ones.
        old: which frames are old, [F] bool.
        fraction: of the frames to train on that shall be old ones, as far as there are enough.
        seed: chooses them.
        reporter: hears how many.

    Raises:
        SettingsError: fewer than two old frames.
    """
    ids = stream(seed, "replay").permutation(np.flatnonzero(old))
    if len(ids) < 2:
        raise SettingsError(f"replay: {len(ids)} frames; at least two are needed, one to train on and one to measure")
    aside = min(max(1, len(ids) // 10), MEASURED)
    wanted = round(fraction / (1 - fraction) * len(sides["train"]))
    chosen = ids[aside : aside + max(wanted, 1)]
    reporter.info(
        f"replay: {len(chosen)} of {len(ids)} old frames are trained on with {len(sides['train'])} new ones; "
        f"forgetting is measured on {aside} others"
    )
    return {**sides, "train": np.sort(np.concatenate([sides["train"], chosen])), "replay": np.sort(ids[:aside])}


MEASURED = 500
"""Most old frames on which forgetting is measured."""


def changes(before: Row, after: Row) -> str:
    """Errors before and after in words; both as `ErrorSums.overall`."""
    parts = []
    for name, label, unit, factor in (
        ("energy_rmse", "energy", "meV/atom", 1000.0),
        ("force_rmse", "force", "meV/Å", 1000.0),
    ):
        if name in before and name in after:
            parts.append(f"{label} RMSE {factor * before[name]:.4g} → {factor * after[name]:.4g} {unit}")
    return ", ".join(parts)


def adapt(
    potential: torch.nn.Module, frozen: Sequence[str], lora_rank: int | None, seed: int, reporter: Reporter
) -> None:
    """Freeze parameters and put low-rank updates in the place of matrices, and say what remains to be trained.

    Raises:
        SettingsError: as `freeze`, or there is no matrix of more rows and columns than the rank.
    """
    freeze(potential, frozen, reporter)
    if lora_rank is not None:
        names = add_low_rank(potential, lora_rank, torch.Generator().manual_seed(integer(seed, "lora")))
        if not names:
            raise SettingsError(f"lora_rank={lora_rank}: the potential has no matrix with more rows and columns")
        reporter.info(f"low-rank updates (rank {lora_rank}) of {', '.join(names)}")
    left = sum(p.numel() for p in potential.parameters() if p.requires_grad)
    if frozen or lora_rank is not None:
        reporter.info(f"{left} of {sum(p.numel() for p in potential.parameters())} parameters are trained")
    if frozen and not left:
        raise SettingsError("freeze: nothing remains to be trained")


def freeze(potential: torch.nn.Module, patterns: Sequence[str], reporter: Reporter) -> None:
    """Take parameters out of the training.

    Args:
        potential: whose.
        patterns: names, or patterns such as "layers.*".
        reporter: hears what is frozen.

    Raises:
        SettingsError: a pattern fits no parameter.
    """
    names = [name for name, _ in potential.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise SettingsError(f"freeze: {pattern!r} fits no parameter; there are {', '.join(names)}")
    frozen = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    for name, parameter in potential.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    if frozen:
        reporter.info(f"frozen: {', '.join(frozen)}")
