"""Speed of energy + forces and of training steps beside other programs, all in one run.

    PEERS=folder python benchmarks/peers.py [infer|train] [rutile models ...] [peer models ...] [n=192,1536]

Peers run in environments of their own, `$PEERS/<name>/bin/python`, by the scripts `bench_<name>.py` of the folder
`shared/bench` beside the checkout (or `$BENCH`); a peer without environment is left out and named. Every measurement
is a process of its own: 2 threads, float32, the same structures (water, 64 molecules and multiples), energy, forces
and stress with the neighbour list in each call, as in a simulation. Rounds go over all models in turn, so that a busy
minute of the machine hits all; reported is the smallest median of the rounds. Rutile's models have random weights and
default sizes, as the peers'. Writes results/peers_{infer,train}.{json,md}; other sizes of earlier runs stay.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BENCH = Path(os.environ.get("BENCH", HERE.parent.parent / "shared" / "bench"))
RESULTS = HERE / "results"
RUTILE = ("schnet", "painn", "teanet", "anatase:small", "anatase:medium")
PEERS = ("mace:small", "mace:medium", "nequip:nequip_l1", "nequip:nequip_l2", "schnetpack:painn",
         "matgl:tensornet")  # fmt: skip
ROUNDS, THREADS = 2, "2"


def main(words: list[str]) -> None:
    """Measure all and write one table."""
    task = "train" if "train" in words else "infer"
    sizes = next((w[2:].split(",") for w in words if w.startswith("n=")), ["192", "1536"])
    chosen = [w for w in words if w not in ("infer", "train") and not w.startswith("n=")]
    mine = [w for w in chosen if w.split(":")[0] not in {p.split(":")[0] for p in PEERS}] if chosen else list(RUTILE)
    theirs = [w for w in chosen if w not in mine] if chosen else list(PEERS)
    if not BENCH.is_dir():
        sys.exit(f"error: the peers' scripts are not at {BENCH}: set BENCH to their folder")
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(ROUNDS):
        for n in sizes:
            for model in (*mine, *theirs):
                record = run(model, model in mine, task, n)
                if record is not None:
                    found.setdefault((model, n), []).append(record)
    write(task, found, sizes)


def run(model: str, ours: bool, task: str, n: str) -> dict[str, Any] | None:
    """One measurement in a process of its own."""
    peer, _, variant = model.partition(":")
    python = Path(sys.executable) if ours else Path(os.environ.get("PEERS", "peers")) / peer / "bin" / "python"
    if not python.exists():
        print(f"{model}: left out, no {python}", flush=True)
        return None
    script = HERE / "peers_rutile.py" if ours else BENCH / f"bench_{peer}.py"
    named = ["--model", model if ours else variant]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.jsonl"
        call = [str(python), str(script), "--task", task, "--workload", "water", "--n", n, "--repeat", "7", "--budget",
                "15", "--json", str(out), *named]  # fmt: skip
        env = os.environ | {"BENCH_THREADS": THREADS, "OMP_NUM_THREADS": THREADS, "BENCH": str(BENCH)}
        done = subprocess.run(call, env=env, cwd=BENCH, capture_output=True, text=True, check=False)
        if done.returncode or not out.exists():
            print(f"{model} n={n}: failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
            return None
        record: dict[str, Any] = json.loads(out.read_text().splitlines()[-1])
        print(f"{model} n={n}: {record['ms']['median']} ms", flush=True)
        return record


def write(task: str, found: dict[tuple[str, str], list[dict[str, Any]]], sizes: list[str]) -> None:
    """The table, and all records as JSON; sizes that were not measured now stay as they were."""
    path = RESULTS / f"peers_{task}.json"
    git = ["git", "describe", "--always", "--dirty"]
    version = subprocess.run(git, cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()
    earlier = json.loads(path.read_text()) if path.exists() else {}
    records = {key: rows for key, rows in earlier.items() if key.split(" n=")[1] not in sizes}
    for (model, n), rows in found.items():
        records[f"{model} n={n}"] = [row | {"rutile": version} for row in rows]
    best = {key: min(rows, key=lambda r: r["ms"]["median"]) for key, rows in records.items()}
    unit = "energy + forces + stress" if task == "infer" else "training step, batch 5"
    lines = [f"# Water, {unit}, 2 threads, float32", ""]
    lines += ["| model | parameters | atoms | time (ms) | peak memory (MB) |", "|---|---|---|---|---|"]
    for key, r in sorted(best.items(), key=lambda item: (item[1]["n_atoms"], item[1]["ms"]["median"])):
        model = key.split(" n=")[0]
        name = f"**rutile {model}**" if r["peer"] == "rutile" else model
        lines.append(f"| {name} | {r['params']} | {r['n_atoms']} | {r['ms']['median']:.1f} | {r['rss_peak_mb']:.0f} |")
    versions = ", ".join(sorted({r["rutile"] for r in best.values()}))
    lines += ["", f"Smallest median of {ROUNDS} rounds; all models of one size in one run; rutile {versions}.", ""]
    path.with_suffix(".md").write_text("\n".join(lines))
    path.write_text(json.dumps(records, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
