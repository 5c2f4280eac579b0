"""A job as an RO-Crate: all that it wrote with a description that programs read (JSON-LD of RO-Crate 1.1).

https://w3id.org/ro/crate/1.1; Soiland-Reyes et al., Data Science 5, 97 (2022), https://doi.org/10.3233/DS-210053
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rutile.jobs import folder as kept
from rutile.jobs import safe_files
from rutile.jobs.tables import DONE, Job
from rutile.server.lineage import Lineage

METADATA = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/crate/1.1"
RUTILE = "#rutile"
PIECE = 1 << 20
Entity = dict[str, Any]


def write_crate(out: zipfile.ZipFile, job: Job, folder: Path, lineage: Lineage) -> None:
    """Write all files of a job, its log, and what they are.

    Args:
        out: the archive.
        job: whose files.
        folder: of the job.
        lineage: what it comes from.
    """
    root = folder / kept.FILES
    there = [(root, e.path, f"files/{e.path}") for e in safe_files.listing(root) if not e.folder]
    files = [one for given in [*there, (folder, kept.LOG, kept.LOG)] if (one := _copied(out, *given)) is not None]
    graph = described(job, files, lineage, kept.read_json(folder / kept.MADE_WITH) or {})
    whole = {"@context": f"{PROFILE}/context", "@graph": graph}
    out.writestr(METADATA, json.dumps(whole, indent=1, ensure_ascii=False))


def _copied(out: zipfile.ZipFile, root: Path, path: str, member: str) -> Entity | None:
    """Put a file into the archive; its entity, with size and hash of what was put in. None: there is no such file."""
    digest, size = hashlib.sha256(), 0
    try:
        opened = safe_files.open_inside(root, path)
    except OSError:
        return None
    with opened as stream, out.open(_plain(member), "w", force_zip64=True) as target:
        while piece := stream.read(PIECE):
            target.write(piece)
            digest.update(piece)
            size += len(piece)
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return {"@id": _plain(member), "@type": "File", "name": path, "contentSize": size, "encodingFormat": kind,
            "sha256": digest.hexdigest()}  # fmt: skip


def _plain(name: str) -> str:
    return name.encode(errors="replace").decode()


def described(job: Job, files: list[Entity], lineage: Lineage, made_with: dict[str, str]) -> list[Entity]:
    """The graph: the crate, its files, the run that made them, with which programs, and what that read."""
    about = {node.reference: node for node in lineage.nodes}
    inputs = [
        {"@id": f"#{one['reference']}", "@type": "CreativeWork", "name": one["name"], "identifier": one["reference"]}
        | ({"sha256": one["sha256"]} if one["sha256"] else {})
        for one in job.inputs
    ]
    sources = [
        {"@id": f"#lineage/{reference}", "@type": "CreativeWork", "name": about[reference].name or reference,
         "identifier": reference, "description": about[reference].about}
        for reference in about
        if about[reference].level < 0
    ]  # fmt: skip
    owner = {"@id": f"#{job.owner.name}", "@type": "Person", "name": job.owner.full_name or job.owner.name}
    others = [
        {"@id": f"#program/{name}", "@type": "SoftwareApplication", "name": name, "version": version}
        for name, version in made_with.items()
        if name not in ("rutile", "seed")
    ]
    program = {"@id": RUTILE, "@type": "SoftwareApplication", "name": "rutile", "version": job.version,
               "softwareRequirements": [_to(one) for one in others]}  # fmt: skip
    settings = [{"@id": f"#setting/{key}", "@type": "PropertyValue", "name": key, "value": json.dumps(value)}
                for key, value in sorted(job.settings.items())]  # fmt: skip
    return [
        {"@id": METADATA, "@type": "CreativeWork", "conformsTo": {"@id": PROFILE}, "about": {"@id": "./"}},
        _root(job, files, owner, sources),
        _run(job, files, inputs, settings),
        *files, *inputs, *sources, *settings, owner, program, *others,
    ]  # fmt: skip


def _root(job: Job, files: list[Entity], owner: Entity, sources: list[Entity]) -> Entity:
    return {
        "@id": "./", "@type": "Dataset", "name": job.name, "description": f"Job {job.id} of rutile: {job.task}",
        "datePublished": _moment(job.ended or job.created), "author": _to(owner), "keywords": list(job.tags),
        "license": "not given: ask the author", "identifier": job.key, "mentions": {"@id": f"#job:{job.id}"},
        "hasPart": [_to(one) for one in files], "isBasedOn": [_to(one) for one in sources],
    }  # fmt: skip


def _run(job: Job, files: list[Entity], inputs: list[Entity], settings: list[Entity]) -> Entity:
    """Who did what, with which program, from what, with which result."""
    ended = "CompletedActionStatus" if job.state == DONE else "FailedActionStatus"
    run: Entity = {
        "@id": f"#job:{job.id}", "@type": "CreateAction", "name": f"rutile {job.task}", "instrument": {"@id": RUTILE},
        "agent": {"@id": f"#{job.owner.name}"}, "object": [_to(one) for one in (*inputs, *settings)],
        "result": [_to(one) for one in files], "actionStatus": {"@id": f"http://schema.org/{ended}"},
    }  # fmt: skip
    if job.started:
        run["startTime"] = _moment(job.started)
    if job.ended:
        run["endTime"] = _moment(job.ended)
    return run | ({"error": job.reason} if job.reason else {})


def _to(entity: Entity) -> Entity:
    return {"@id": entity["@id"]}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
