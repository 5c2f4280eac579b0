"""What core repulsion brings to a network on descriptors: errors and holes of the demo's potential with and without.

    python benchmarks/core_repulsion.py [seeds=3] [epochs=300] [structures=100] [out=runs/core_repulsion]

Trains the potential of `rutile demo` (its data, its settings, one thread) without core repulsion and with one that ends
at 0.6 and 0.8 of the sum of the covalent radii, seed by seed, for the same number of epochs; a step costs the same.
Errors are on the validation and test structures with forces below 5 eV/Angstrom. Random crystals of 2 to 4 TiO2, as a
search makes them, are relaxed with their cells; two atoms nearer than 0.5 Angstrom end a relaxation: it has failed. No
crystal of TiO2 is known far below anatase, so that what comes to lie more than 50 meV/atom below it lies in a hole of
the potential. Writes results/core_repulsion.{json,md}.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import one_line_errors, write

from rutile import starter
from rutile.build.recipe import Refused
from rutile.build.sizes import reference_volume
from rutile.core.reporting import SilentReporter
from rutile.core.seeds import stream
from rutile.potentials.save import load_model
from rutile.search.crystals import new_crystal
from rutile.simulate.relax import relax
from rutile.simulate.settings import RelaxSettings
from rutile.structures.structures import Structures
from rutile.tasks import demo, evaluate, train

DEEP = 0.05
"""Energy (eV/atom) below anatase that no crystal has."""
ENDS = (0.0, 0.6, 0.8)
"""Of the core repulsion; 0: there is none."""
UNIT, UNITS, SYMMETRIC = [22, 8, 8], (2, 3, 4), 0.6
"""Of the random crystals: atoms, numbers of formula units, share with a random space group."""


def main(words: list[str]) -> None:
    """Train, relax, write the table."""
    given = dict(w.split("=", 1) for w in words)
    out, rows = Path(given.get("out", "runs/core_repulsion")), []
    epochs, count = int(given.get("epochs", 300)), int(given.get("structures", 100))
    crystals = Structures.from_ase(random_crystals(count))
    for seed in range(int(given.get("seeds", 3))):
        for end in ENDS:
            place = out / f"{seed}-{end:g}"
            rows.append(
                {"seed": seed, "end": end} | trained(place, seed, epochs, end) | relaxed(place / "run", crystals)
            )
            print(rows[-1], flush=True)
    write("core_repulsion", {"epochs": epochs, "structures": count, "rows": rows}, table(rows, epochs, count))


def random_crystals(count: int) -> list[Any]:
    """Crystals of TiO2 as a search begins with; the same for all potentials."""
    rng, out, volume = stream(0, "core repulsion"), [], reference_volume(np.array(UNIT))
    while len(out) < count:
        try:
            out.append(new_crystal(np.repeat(UNIT, rng.choice(UNITS)), volume, SYMMETRIC, rng))
        except Refused:
            continue
    return out


def trained(out: Path, seed: int, epochs: int, end: float) -> dict[str, float]:
    """Errors of the demo's potential after so many epochs."""
    settings = demo.DemoSettings(out=out, epochs=epochs, seconds=1e6, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    files = demo.write_parts(settings)
    job = demo.train_settings(settings, files)
    core = {"zbl": end > 0, "zbl_end": end or 1.0}
    job = job.model_copy(update={"potential": job.potential.model_copy(update=core), "write_report": False})
    train.run(job, SilentReporter())
    row: dict[str, float] = {}
    for part in ("valid", "test"):
        assessed = evaluate.EvaluateSettings(
            model=out / "run", data=[files[part]], out=out / part, force_limit=demo.LARGE
        )
        for e in evaluate.run(assessed, SilentReporter()).errors:
            if e.subset == "limit" and "<" in e.name and e.quantity in ("energy", "force") and e.unit != "GPa":
                row[f"{part}_{e.quantity}"] = 1000 * e.rmse
    return row


def relaxed(model: Path, crystals: Structures) -> dict[str, Any]:
    """Where random crystals go, in energies above that of anatase (eV/atom)."""
    potential = load_model(model).potential
    settings = RelaxSettings(cell="full", fmax=0.05, smax=0.5, max_steps=300)
    anatase = next(p.atoms for p in starter.dft_polymorphs() if p.name == "anatase")
    zero = relax(Structures.from_ase([anatase]), potential, settings, SilentReporter())
    found = relax(crystals, potential, settings, SilentReporter())
    energy = (found.energy / found.structures.counts).numpy() - float(zero.energy[0]) / len(anatase)
    return {
        "lowest": float(np.nanmin(energy)),
        "in_holes": int((energy < -DEEP).sum()),
        "failed": sum(map(bool, found.failure)),
        "relaxed": int(found.converged.sum()),
    }


def table(rows: list[dict[str, Any]], epochs: int, count: int) -> str:
    """The results as a page."""
    lines = [
        "# Core repulsion of a network on descriptors",
        "",
        f"The potential of the demo after {epochs} epochs; RMSE in meV/atom and meV/Å on structures with forces below "
        f"{demo.LARGE:g} eV/Å. {count} random crystals of TiO2 relaxed with their cells: energy of the lowest above "
        f"anatase (eV/atom), how many came to lie more than {1000 * DEEP:g} meV/atom below it, how many failed.",
        "",
        "| core repulsion to | seed | energy, validation | energy, test | force, validation | force, test "
        "| lowest | in holes | failed | relaxed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['end'] or 'none'} | {r['seed']} | {r['valid_energy']:.1f} | {r['test_energy']:.1f} | "
        f"{r['valid_force']:.0f} | {r['test_force']:.0f} | {r['lowest']:.3g} | "
        f"{r['in_holes']} | {r['failed']} | {r['relaxed']} |"
        for r in sorted(rows, key=lambda r: (r["end"], r["seed"]))
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    one_line_errors(main, sys.argv[1:])
