"""The notebook that one begins with: what it was opened with, and a few first cells that run as they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Cell = dict[str, Any]
TITLE = """# rutile

Cells run with Shift+Enter. This notebook ends by *File, Shut Down*, or when nothing has been done in it for a while;
what is saved in this folder stays."""
SIGNED_IN = """## The platform

`client` acts as you, as long as this notebook runs. The newest jobs:"""
ALONE = """## The platform

Where a platform runs (`rutile serve`), make a token on its page Account, and take the # away."""
CLIENT = """client = rutile.Client()
for row in client.jobs(size=10):
    print(row["id"], row["state"], row["task"], row["name"])"""
FIRST = """from pathlib import Path

from ase.build import bulk
from ase.io import read

import rutile"""
NO_CLIENT = """# client = rutile.Client("http://127.0.0.1:8765", token="rtl_...")
# client.jobs(size=10)"""
JOB = """## Job {job}"""
JOB_CODE = """job = client.job({job})
print(job["task"], job["state"], job["settings"])
for file in client.files({job}):
    print(file["path"], file["size"])
# client.download({job}, "result.extxyz", Path("result.extxyz"))
job["result"]"""
DATA = """## Labelled structures"""
DATA_CODE = """from rutile.core.reporting import SilentReporter
from rutile.data.reading import read_frames
from rutile.data.settings import ReadSettings

data = [{paths}]
frames = list(read_frames(data, ReadSettings(), SilentReporter()))
print(len(frames), "structures")
frames[0]"""
STRUCTURES = """## Structures"""
STRUCTURES_CODE = """images = [image for path in [{paths}] for image in read(path, ":")]
for image in images[:10]:
    print(image.get_chemical_formula(), len(image), image.cell.cellpar().round(3))"""
CRYSTAL_CODE = """images = [bulk("Cu", "fcc", a=3.6, cubic=True)]
images[0]"""
MODEL = """## Energy and forces"""
MODEL_CODE = """model = rutile.load({model})
known = set(model.info.elements)
for image in images[:10]:
    if not known.issuperset(image.numbers.tolist()):
        print(image.get_chemical_formula(), "holds elements that the potential does not know")
        continue
    image.calc = model.calculator()
    energy, largest = image.get_potential_energy(), abs(image.get_forces()).max()
    print(image.get_chemical_formula(), energy, "eV", largest, "eV/Å")"""
REGISTRY = """## A model of the registry

With its number, its file is fetched and used as above."""
REGISTRY_CODE = """for row in client.models():
    print(row["id"], row["stage"], row["name"], row["elements"])
# model = rutile.load(client.download_model(5, Path("model.rutile")))"""


def start_notebook(
    structures: Sequence[Path], model: Path | None, data: Sequence[Path], job: int | None, signed_in: bool
) -> str:
    """The notebook as text (nbformat 4.5).

    Args:
        structures: files of structures to look at.
        model: potential to compute with; EMT where there is none.
        data: files of labelled structures.
        job: number of a job of the platform to look at.
        signed_in: whether `rutile.Client()` finds a platform.
    """
    cells = [
        _words(TITLE),
        _code(FIRST),
    ]
    cells += [_words(SIGNED_IN if signed_in else ALONE), _code(CLIENT if signed_in else NO_CLIENT)]
    if job is not None and signed_in:
        cells += [_words(JOB.format(job=job)), _code(JOB_CODE.format(job=job))]
    if data:
        cells += [_words(DATA), _code(DATA_CODE.format(paths=", ".join(f"Path({str(p)!r})" for p in data)))]
    looked = STRUCTURES_CODE.format(paths=", ".join(repr(str(p)) for p in structures)) if structures else CRYSTAL_CODE
    cells += [_words(STRUCTURES), _code(looked)]
    cells += [_words(MODEL), _code(MODEL_CODE.format(model=repr(str(model or "emt"))))]
    if signed_in and model is None:
        cells += [_words(REGISTRY), _code(REGISTRY_CODE)]
    for number, cell in enumerate(cells):
        cell["id"] = f"start-{number}"
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _words(text: str) -> Cell:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(text: str) -> Cell:
    return {"cell_type": "code", "metadata": {}, "source": text, "execution_count": None, "outputs": []}
