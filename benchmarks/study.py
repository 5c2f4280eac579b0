"""Which width, depth, cutoffs and couplings? Anatase with one setting changed at a time, equal time of training.

    python benchmarks/study.py [seconds=60] [seeds=1,2] [together=2] [only=NAME,...]

Every variant is trained on 3BPA (450 molecules at 300 K) for the same time on one thread with several seeds, as in
accuracy_per_time.py, and tested on 50 molecules at 300 K and on the hotter ones; then the time of energy, forces and
stress of 192 atoms of water is measured for each, one after the other, on one thread. Everything else is the default.

Writes results/study.{json,md}, docs/study.png and docs/study.md; variants of an earlier run for the same time stay.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

from accuracy import RESULTS
from accuracy_per_time import HERE, train_one, write_parts

BENCH = Path(os.environ.get("BENCH", HERE.parent.parent / "shared" / "bench"))
VARIANTS: dict[str, tuple[str, ...]] = {
    "small": ("size=small",),
    "medium": ("size=medium",),
    "16 channels": ("channels=16",),
    "48 channels": ("channels=48",),
    "1 layer of 5 Å": ("cutoffs=[5]",),
    "1 layer of 6 Å": ("cutoffs=[6]",),
    "3 layers of 5 Å": ("cutoffs=[5,5,5]",),
    "2 layers of 4 Å": ("cutoffs=[4,4]",),
    "layers of 4 and 5 Å": ("cutoffs=[4,5]",),
    "2 layers of 6 Å": ("cutoffs=[6,6]",),
    "all couplings": ("couplings=full",),
    "4 radial functions": ("radial=4",),
    "12 radial functions": ("radial=12",),
    "4 sources": ("sources=4",),
    "16 sources": ("sources=16",),
    "5 waves": ("waves=5",),
    "hidden 32": ("hidden=32",),
    "hidden 128": ("hidden=128",),
}
"""Settings that differ from those of `small`."""


def main(words: list[str]) -> None:
    """Train and time all, write table, figure and page."""
    given = dict(w.split("=", 1) for w in words)
    seconds = float(given.get("seconds", 60))
    seeds = [int(s) for s in given.get("seeds", "1,2").split(",")]
    chosen = given["only"].split(",") if "only" in given else list(VARIANTS)
    if not BENCH.is_dir() or set(chosen) - set(VARIANTS):
        sys.exit(f"error: needs the peers' scripts at {BENCH} (or $BENCH); variants: {', '.join(VARIANTS)}")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        write_parts("3bpa", data)

        def one(job: tuple[str, int]) -> dict[str, Any] | None:
            name, seed = job
            settings = [f"seed={seed}", *(f"potential.{s}" for s in VARIANTS[name])]
            label = f"anatase:{list(VARIANTS).index(name)}-{seed}"
            return train_one(label, data, Path(folder), seconds, "1", settings)

        jobs = [(name, seed) for seed in seeds for name in chosen]
        with ThreadPoolExecutor(int(given.get("together", "2"))) as pool:
            records = list(pool.map(one, jobs))
    found: dict[str, Any] = {}
    for (name, _), record in zip(jobs, records, strict=True):
        if record is not None:
            found.setdefault(name, {"runs": []})["runs"].append(record)
    for name in found:
        found[name]["ms"] = min(inference(VARIANTS[name]) for _ in range(2))
    save(found, seconds, seeds)


def inference(settings: tuple[str, ...]) -> float:
    """Milliseconds for energy, forces and stress of 192 atoms of water."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.jsonl"
        call = [sys.executable, str(HERE / "peers_rutile.py"), "--n", "192", "--budget", "10", "--json", str(out),
                "--model", f"anatase:{' '.join(settings)}"]  # fmt: skip
        env = os.environ | {"BENCH_THREADS": "1", "OMP_NUM_THREADS": "1", "BENCH": str(BENCH)}
        subprocess.run(call, env=env, check=True, capture_output=True)
        return float(json.loads(out.read_text())["ms"]["median"])


def save(found: dict[str, Any], seconds: float, seeds: list[int]) -> None:
    """Table, figure and page."""
    path = RESULTS / "study.json"
    key = {"seconds": seconds, "seeds": seeds}
    earlier = json.loads(path.read_text()) if path.exists() else {}
    if {k: earlier.get(k) for k in key} == key:
        found = earlier["variants"] | found
    path.write_text(json.dumps(key | {"variants": found}, indent=1) + "\n")
    lines = [
        "| variant | parameters | epochs | energy + forces (ms) | force RMSE, 300 K (meV/Å) | force RMSE, hotter |",
        "|---|---|---|---|---|---|",
    ]
    for name, v in sorted(found.items(), key=lambda item: mean(errors(item[1], "valid"))):
        runs = v["runs"]
        lines.append(
            f"| {name} | {runs[0]['params']} | {mean(r['epochs'] for r in runs):.0f} | {v['ms']:.1f} | "
            f"{stated(errors(v, 'valid'))} | {stated(errors(v, 'test'))} |"
        )
    path.with_suffix(".md").write_text("\n".join([*lines, ""]))
    draw(found, HERE.parent / "docs" / "study.png")
    text = [
        "# Choice of the flagship's size",
        "",
        f"Anatase with one setting changed at a time (the others as in `small`), trained on 3BPA for {seconds:g} s on "
        f"one thread, {len(seeds)} seeds (mean, and the range in brackets). Errors on 50 molecules at 300 K and on "
        "hotter ones; time of energy, forces and stress of 192 atoms of water on one thread. After such a short time a "
        "variant that steps fast is ahead of one that would end lower. Made by `benchmarks/study.py`.",
        "",
        "![error against inference time](study.png)",
        "",
        *lines,
    ]
    (HERE.parent / "docs" / "study.md").write_text("\n".join([*text, ""]))
    print("\n".join(lines))


def errors(variant: dict[str, Any], part: str) -> list[float]:
    """Force RMSE of all seeds."""
    return [run[part]["F_rmse"] for run in variant["runs"]]


def stated(values: list[float]) -> str:
    """Mean and range."""
    return f"{mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def draw(found: dict[str, Any], path: Path) -> None:
    """Error against time of inference, one panel for each test."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for axes, part, title in zip(panels, ("valid", "test"), ("300 K", "300, 600 and 1200 K"), strict=True):
        for name, v in found.items():
            e = errors(v, part)
            middle = mean(e)
            color = "tab:red" if name in ("small", "medium") else "tab:gray"
            axes.errorbar(v["ms"], middle, [[middle - min(e)], [max(e) - middle]], fmt="o", color=color, capsize=2)
            axes.annotate(name, (v["ms"], middle), xytext=(4, 4), textcoords="offset points", fontsize=7)
        axes.set(title=title, xlabel="energy + forces + stress, 192 atoms (ms)", ylabel="force RMSE (meV/Å)")
        axes.set(xscale="log", yscale="log")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main(sys.argv[1:])
