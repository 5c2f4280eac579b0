"""Make the starter sets tio2_extension, tio2_rpbe, silicon and molecules: `rutile generate`, `train`, `choose`, `label`.

    python scripts/starter_sets.py molecules                                # a minute; needs rdkit and tblite
    python scripts/starter_sets.py silicon --gpaw gpaw/bin/python           # docs/label.md says how to get GPAW
    python scripts/starter_sets.py tio2_extension --gpaw gpaw/bin/python
    python scripts/starter_sets.py tio2_rpbe --gpaw gpaw/bin/python

Everything is in the folder runs/starter (--work) and goes on where it was stopped: what is made stays, and labels are kept one
by one. At the end a set is written to src/rutile/starter (--to), with how it was made beside it. A set that is there
grows: its frames stay, and only other structures are labelled. --most N labels only the N structures that come first;
each beginning of the list is a balanced set.

tio2 itself is made by scripts/tio2_starter.py; its settings are those of `DFT` here, so that tio2 and tio2_extension are
of one calc mode (labels of tio2 made again by `rutile label` agree to 1e-8 eV, 2e-7 eV/Angstrom, 2e-9 eV/Angstrom^3).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

from rutile import starter
from rutile.label.kpoints import kpoints

PLANS = Path(starter.__file__).parent / "plans"
TIO2 = ["engine.cutoff=800", "engine.k_density=10.5", "engine.density_tolerance=1e-4"]
FIXED = ["engine.vacuum=4.5"]
ENGINE = {
    "tio2_extension": ["engine=gpaw", *TIO2, *FIXED],
    "tio2_rpbe": ["engine=gpaw", "engine.functional=RPBE", *TIO2],
    "silicon": ["engine=gpaw", "engine.cutoff=400", "engine.k_density=15"],
    "molecules": ["engine=xtb"],
}
MODES = {
    "tio2_extension": "gpaw-pbe-pw800-k10.5",
    "tio2_rpbe": "gpaw-rpbe-pw800-k10.5",
    "silicon": "gpaw-pbe-pw400-k15",
    "molecules": "gfn2-xtb",
}
WHAT = {
    "tio2_extension": "TiO2 beyond crystals: slabs of two or three layers, melts and quenched melts, chosen by the "
    "disagreement of a committee trained on tio2; free atoms (PBE)",
    "tio2_rpbe": "Structures of tio2 again with another functional, and free atoms (RPBE): a second calc mode",
    "silicon": "Silicon, 2 to 8 atoms: eight crystals strained and displaced, disordered cells, a free atom (PBE)",
    "molecules": "Small molecules of H, C, N, O: thermal normal modes, turned and stretched bonds, free atoms (GFN2-xTB)",
}
COMMITTEE = {
    "data": [str(starter.path("tio2"))],
    "members": 4,
    "potential": {"name": "behler", "table": "tio2_artrith_urban_2016", "hidden": [15, 15], "activation": "silu",
                  "scaling": "whitened"},
    "loss": {"energy": {"start": 1.0, "limit": 50.0}, "force": {"start": 1.0, "limit": 1.0}},
    "optimizer": {"name": "adam", "learning_rate": 0.004},
    "schedule": {"name": "exponential", "stop": 0.02},
    "epochs": 100, "max_seconds": 110, "batch_size": 8, "force_limit": 30, "precision": "float32", "keep": "last",
    "ema": 0.99, "threads": 1, "out": "committee/run",
}  # fmt: skip
BUDGET = 24
"""Chosen slabs, and as many disordered cells."""
DEAREST = 10500.0
"""Half the k-points times volume (Angstrom^3) times atoms: what costs more is left out."""
QUOTA = {
    ("rutile", "relax"): 1, ("anatase", "relax"): 1, ("fluorite", "relax"): 1, ("columbite", "relax"): 1,
    ("pyrite", "relax"): 1, ("rutile", "symmetric"): 6, ("anatase", "symmetric"): 5, ("fluorite", "symmetric"): 5,
    ("pyrite", "symmetric"): 3, ("columbite", "symmetric"): 2, ("rutile", "strained"): 5, ("anatase", "strained"): 3,
    ("fluorite", "strained"): 3, ("rutile", "rattled"): 8, ("anatase", "rattled"): 5, ("fluorite", "rattled"): 4,
    ("rutile", "heated"): 6, ("anatase", "heated"): 5, ("fluorite", "heated"): 3, ("random6", "random"): 10,
    ("random6", "quenched"): 12,
}  # fmt: skip
"""How many frames of each parent and kind get a second label."""
KEPT = ("frame_id", "parent", "config_type", "made_by", "relaxed", "force_std", "kpoints", "calc_mode", "code",
        "functional", "cutoff", "pseudopotentials", "settings_hash", "seconds", "spin", "charge", "multiplicity")  # fmt: skip
"""What a frame of a set says about itself."""


def rutile(*words: str, work: Path) -> dict:
    """Run a command of rutile in the folder of the work; its result."""
    print("rutile", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "rutile", *words, "--json"], cwd=work, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"rutile {words[0]} ended with exit code {done.returncode}")
    return json.loads(done.stdout)


def generated(name: str, out: str, work: Path) -> list[Atoms]:
    """The structures of a plan."""
    if not (work / out).exists():
        rutile("generate", str(PLANS / f"{name}.yaml"), f"out={out}", work=work)
    return read(work / out, ":")


def bare(atoms: Atoms, **info: object) -> Atoms:
    """A structure with nothing but what is said about it."""
    out = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    out.info = info
    return out


def named(atoms: Atoms, kind: str, counts: Counter, made_by: str, **info: object) -> Atoms:
    """A structure with its name and where it comes from."""
    parent = str(atoms.info["parent"]).split(": ", 1)[1].replace(" ", "-")
    counts[kind] += 1
    name = f"{kind}-{counts[kind] - 1:03d}"
    return bare(atoms, frame_id=name, parent=parent, config_type=kind, made_by=made_by, **info)


def in_turns(groups: dict) -> list[Atoms]:
    """Members of groups, so that each beginning of the list holds all groups in proportion."""
    ranked = [((k + 0.5) / len(g), n, a) for n, g in enumerate(groups.values()) for k, a in enumerate(g)]
    return [a for _, _, a in sorted(ranked, key=lambda item: item[:2])]


def tio2_extension(work: Path) -> list[Atoms]:
    """Slabs and disordered cells on which a committee disagrees that was trained on tio2."""
    if not (work / "committee/run/model.rutile").exists():
        (work / "committee.yaml").write_text(json.dumps(COMMITTEE))
        rutile("train", "committee.yaml", work=work)
    made = generated("tio2_extension", "tio2-candidates.extxyz", work)
    ranked = []
    for part in ("slabs", "disordered"):
        candidates = [a for a in made if ("slab" in a.info["config_type"]) == (part == "slabs")]
        write(work / f"{part}.extxyz", candidates)
        rutile("choose", f"{part}.extxyz", "model=committee/run", f"known={json.dumps(COMMITTEE['data'])}",
               f"budget={BUDGET}", "shortlist=1000", f"out=chosen-{part}.extxyz", f"decisions={part}.csv", f"report={part}.html",
               work=work)  # fmt: skip
        with (work / f"{part}.csv").open() as file:
            rows = sorted((row for row in csv.DictReader(file) if row["rank"]), key=lambda row: int(row["rank"]))
        for k, row in enumerate(rows):
            ranked.append(((k + 0.5) / len(rows), candidates[int(row["structure"].rsplit("#", 1)[1])], row))
    counts, out = Counter(), []
    for _, atoms, row in sorted(ranked, key=lambda item: item[0]):
        if (np.prod(kpoints(atoms, 10.5)) + 1) // 2 * atoms.get_volume() * len(atoms) < DEAREST:
            kind, made_by = origin(atoms)
            out.append(named(atoms, kind, counts, made_by, force_std=float(row["force_std_eV_per_A"])))
    return out


def origin(atoms: Atoms) -> tuple[str, str]:
    """Kind of a candidate, and how it was made."""
    drawn = atoms.info["parameters"]
    if "slab" in atoms.info["config_type"]:
        return "slab", f"displacements {drawn.get('rattle', 0.0)} A"
    if atoms.info["config_type"] == "packing":
        return "packing", "random packing"
    kind = "amorphous" if drawn["thermostat"] < 1200 else "melt"
    return kind, f"melt at {drawn['melt']} K, taken at {drawn['thermostat']} K"


def tio2_rpbe(work: Path) -> list[Atoms]:
    """Frames of tio2, chosen for variety among the cheaper ones of each kind."""
    groups = defaultdict(list)
    for atoms in starter.frames("tio2"):
        kind = (atoms.info["parent"], atoms.info["config_type"])
        if kind in QUOTA and (kind[1] != "relax" or atoms.info.get("relaxed")):
            groups[kind].append(atoms)
    ranked = []
    for kind, n in QUOTA.items():
        group = groups[kind]
        if kind[1] != "relax":
            group = sorted(group, key=lambda a: a.info["seconds"])[: max(n, int(len(group) * 0.6))]
            group = sorted(group, key=lambda a: a.info["frame_id"])
        ranked += [(-1 if kind[1] == "relax" else (k + 0.5) / n, group[k * len(group) // n]) for k in range(n)]
    keys = ("frame_id", "parent", "config_type", "kpoints", "made_by", "relaxed")
    ordered = [a for _, a in sorted(ranked, key=lambda item: (item[0], item[1].info["frame_id"]))]
    out = [bare(a, **{k: a.info[k] for k in keys if k in a.info}) for a in ordered]
    first = next(a for a in out if a.info["config_type"] == "quenched" and sorted(a.info["kpoints"]) == [2, 3, 3])
    return [first, *(a for a in out if a is not first)]  # the self-check takes the first


def silicon(work: Path) -> list[Atoms]:
    """Crystals and disordered cells of at least two atoms."""
    groups, counts = defaultdict(list), Counter()
    for atoms in generated("silicon", "silicon-structures.extxyz", work):
        if len(atoms) > 1:
            groups[atoms.info["parent"]].append(atoms)
    chosen = {k: g[: 20 if "disordered" in k else 6] for k, g in groups.items()}
    out = []
    for atoms in in_turns(chosen):
        kind = atoms.info["config_type"] if "disordered" in atoms.info["config_type"] else "crystal"
        drawn = atoms.info["parameters"]
        made_by = "as built" if drawn.get("pristine") else ", ".join(f"{k} {v}" for k, v in drawn.items())
        out.append(named(atoms, kind, counts, made_by))
    return out


def molecules(work: Path) -> list[Atoms]:
    """All that the plan makes."""
    counts, out = Counter(), []
    for atoms in generated("molecules", "molecules-structures.extxyz", work):
        drawn = atoms.info["parameters"]
        made_by = "as built" if drawn.get("pristine") else ", ".join(f"{k} {v}" for k, v in drawn.items())
        out.append(named(atoms, atoms.info["config_type"], counts, made_by))
    return out


MAKERS = {"tio2_extension": tio2_extension, "tio2_rpbe": tio2_rpbe, "silicon": silicon, "molecules": molecules}


def others(structures: list[Atoms], known: list[Atoms]) -> list[Atoms]:
    """The structures that a set does not hold yet; names that it has given already are given anew."""
    names, out = {a.info["frame_id"] for a in known}, []
    for atoms in structures:
        if any(same(atoms, a) for a in known):
            continue
        name = atoms.info["frame_id"]
        if name in names and name.rpartition("-")[2].isdigit():
            kind = name.rpartition("-")[0]
            name = next(f"{kind}-{k:03d}" for k in range(1000) if f"{kind}-{k:03d}" not in names)
        names.add(name)
        atoms.info["frame_id"] = name
        out.append(atoms)
    return out


def same(a: Atoms, b: Atoms) -> bool:
    """Whether two frames are of one structure."""
    return (
        len(a) == len(b)
        and bool((a.numbers == b.numbers).all())
        and bool((a.pbc == b.pbc).all())
        and np.allclose(a.cell.array, b.cell.array, atol=1e-6)
        and np.allclose(a.positions, b.positions, atol=1e-6)
    )


def labelled(
    name: str, structures: list[Atoms], work: Path, python: str, known: dict | None
) -> tuple[list[Atoms], dict]:
    """Structures with labels, isolated atoms, and what the self-check found; `known`: provenance of the set so far."""
    write(work / f"{name}-given.extxyz", structures)
    words = [*ENGINE[name], f"engine.calc_mode={MODES[name]}", "cache=cache"]
    if python and name != "molecules":
        words.append(f"engine.python={python}")
    lone = name in ("tio2_extension", "tio2_rpbe")  # atoms in a smaller box than usual: plane waves of 800 eV are dear
    checked = ["self_check=false"] if known or name == "tio2_extension" else []  # tio2 was checked with these settings
    about = rutile("label", f"{name}-given.extxyz", *words, f"isolated_atoms={str(not (lone or known)).lower()}", *checked,
                   f"out={name}-labelled.extxyz", work=work)  # fmt: skip
    out = read(work / f"{name}-labelled.extxyz", ":")
    if lone and not known:
        write(work / "atoms.extxyz", [Atoms("Ti", positions=[(0, 0, 0)]), Atoms("O", positions=[(0, 0, 0)])])
        rutile("label", "atoms.extxyz", *words, *FIXED, "self_check=false", f"out={name}-atoms.extxyz", work=work)
        out += read(work / f"{name}-atoms.extxyz", ":")
    return out, known or about


def finished(atoms: Atoms) -> Atoms:
    """A frame as it is kept: names in order, no calculator."""
    if len(atoms) == 1 and not atoms.pbc.any():
        atoms.info |= {"config_type": "isolated_atom", "frame_id": f"atom-{atoms.symbols[0]}", "parent": "atom"}
    out = bare(atoms, **{k: atoms.info[k] for k in KEPT if k in atoms.info})
    out.info["REF_energy"] = float(atoms.info["REF_energy"])
    if "REF_stress" in atoms.info:
        out.info["REF_stress"] = np.asarray(atoms.info["REF_stress"], dtype=float).reshape(3, 3)
    out.arrays["REF_forces"] = atoms.arrays["REF_forces"]
    return out


def collect(name: str, frames: list[Atoms], about: dict, to: Path) -> None:
    """Write the frames and how they were made."""
    frames = [finished(a) for a in frames]
    path = to / f"{name}.extxyz"
    write(path, frames, format="extxyz", write_results=False)
    units = {"energy": "eV", "forces": "eV/Angstrom"}
    stress = {"stress": "eV/Angstrom^3, positive under tension"} if any("REF_stress" in a.info for a in frames) else {}
    provenance = {
        "what": WHAT[name],
        "made_by": f"scripts/starter_sets.py {name}, by rutile {__import__('rutile').__version__}",
        "licence": "CC0-1.0 (made by this project)",
        "calc_mode": MODES[name],
        "settings": {**dict(w.split("=") for w in ENGINE[name]), "energy": "the one whose derivatives the forces are"},
        "settings_hash": sorted({a.info["settings_hash"] for a in frames}),
        "code": sorted({a.info["code"] for a in frames}),
        "units": units | stress,
        "frames": len(frames),
        "frames_by_kind": dict(sorted(Counter(str(a.info["config_type"]) for a in frames).items())),
        "self_check": about["self_check"] if name != "tio2_extension" else "see tio2.json: the same settings",
        "label_seconds": round(sum(float(a.info.get("seconds", 0.0)) for a in frames)),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    path.with_suffix(".json").write_text(json.dumps(provenance, indent=1) + "\n")
    print(f"{len(frames)} frames -> {path} ({path.stat().st_size / 1e6:.2f} MB)")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(MAKERS))
    parser.add_argument("--work", type=Path, default=Path("runs/starter"))
    parser.add_argument("--to", type=Path, default=PLANS.parent)
    parser.add_argument("--gpaw", default="", help="the Python that has GPAW")
    parser.add_argument("--most", type=int, default=None, help="label only the first so many structures")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    python = str(Path(args.gpaw).absolute()) if args.gpaw else ""
    file = args.to / f"{args.name}.extxyz"
    known = read(file, ":") if file.exists() else []
    about = json.loads(file.with_suffix(".json").read_text()) if known else None
    structures = others(MAKERS[args.name](args.work.absolute()), known)[: args.most]
    frames, about = labelled(args.name, structures, args.work.absolute(), python, about)
    collect(args.name, known + frames, about, args.to)


if __name__ == "__main__":
    main()
