"""The steps of a round of `rutile learn`: each reads and writes files in the folder of the round, and may be repeated.

round-03/explored.extxyz   what exploration met       chosen.extxyz, decisions.csv, choice.html   what was chosen, why
         labelled.extxyz   with labels                train.extxyz, valid.extxyz                  how they were divided
         model/            the committee, its report  calibration/                                its error bars
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rutile.active.explore import Exploration
from rutile.active.explorers import Explore, Limits
from rutile.active.loop import State, knows_enough, labels_made, proved, round_name
from rutile.active.plan import WarmRetraining
from rutile.build.plan import images, make_plan
from rutile.core.errors import DataError, LabelError
from rutile.core.executors.catalogue import open_executor
from rutile.core.files import write_atomically
from rutile.core.reporting import PartReporter, SilentReporter
from rutile.core.seeds import integer, stream
from rutile.label.campaign import NOT_KEPT
from rutile.potentials.combine import common_elements
from rutile.potentials.save import load_model
from rutile.potentials.settings.stored import MODEL_FILE
from rutile.structures.io import write_frames
from rutile.tasks import calibrate, choose, label
from rutile.tasks.committee_training import CommitteeData, compared, errors_on, given_frames, train_committee
from rutile.tasks.forces import MECHANICS
from rutile.tasks.learn_plan import RUNNING

if TYPE_CHECKING:
    from ase import Atoms

    from rutile.active.choose import Levels
    from rutile.potentials.model import Model
    from rutile.tasks.learn import LearnSettings
    from rutile.train.assess import Compared

HOPELESS = NOT_KEPT - {"too large", "unsuitable"} | {"self-check"}
"""Failures that all further structures would share."""
FEWEST = 2
"""Frames for validation from which on a calibration is made."""


@dataclass
class Steps:
    """The steps, for the round at work."""

    settings: LearnSettings
    """The plan."""
    state: State
    """Where the loop is."""
    reporter: PartReporter
    """Told of progress."""

    def __post_init__(self) -> None:
        given = {name: self.state.plan[name] for name in ("systems", "choose", "retrain", "committee")}
        now = self.settings.committee.model_dump(mode="json", include=set(RUNNING))
        given["committee"] = given["committee"] | now
        self.settings = type(self.settings).model_validate(self.settings.model_dump(mode="json") | given)
        self.folder.mkdir(exist_ok=True)

    @property
    def folder(self) -> Path:
        """Of the round."""
        return self._round(self.state.round)

    @property
    def model(self) -> Path:
        """The newest model."""
        return self.settings.out / self.state.model

    @property
    def mode(self) -> str:
        """Name of the engine's reference method."""
        return str(self.state.kept["engine"]["calc_mode"])

    def do(self, name: str) -> bool:
        """Do a step; returns whether the round is over after it."""
        steps: dict[str, Callable[[], bool | None]] = {
            "explore": self.explore,
            "choose": self.choose,
            "verify": self.verify,
            "label": self.label,
            "compare": self.compare,
            "divide": self.divide,
            "train": self.train,
            "calibrate": self.calibrate,
            "check": self.check,
        }
        return bool(steps[name]())

    def explore(self) -> None:
        """Let the committee explore all systems."""
        settings, model = self.settings, load_model(self.model)
        levels = self._levels(model)
        limits = Limits(levels.high, settings.choose.closest, settings.choose.max_force)
        number = integer(settings.seed, "round", self.state.round) % 2**31
        work = Explore(self.model.resolve(), limits, settings.committee.device, self.mode)
        with open_executor(settings.executor, settings.workers, self.reporter) as executor:
            known = frozenset(common_elements(model.raw_members()))
            exploration = Exploration(self.folder, number, executor, MECHANICS, settings.workers, self.reporter, known)
            notes = exploration.run(settings.systems, work)
        self.state.row["explored"] = sum(n.frames for n in notes)
        ended: dict[str, Counter[str]] = {}
        for note in notes:
            ended.setdefault(f"{note.system}-{note.explorer}", Counter())[_without_numbers(note.ended)] += 1
        self.state.details[-1]["ended"] = {name: dict(counts.most_common()) for name, counts in ended.items()}

    def _levels(self, model: Model) -> Levels:
        """Trust levels; those not given never rise: errors on ever stranger frames would let in stranger ones.

        Nor are they ever above what says something: a poor committee has much to learn, whatever it agrees about.
        """
        levels, given = choose.trust_levels(self.settings.choose, model), self.settings.choose
        before = [row["low"] for row in self.state.rows[:-1] if row.get("low") is not None]
        most = min([*before, choose.DOUBTFUL])
        if given.low is not None or levels.low <= most:
            return levels
        return choose.trust_levels(given.model_copy(update={"low": most}), model)

    def choose(self) -> bool:
        """Choose what the committee does not know; the round is over where that is little, or nothing."""
        settings, row = self.settings, self.state.row
        budget = settings.choose.budget
        if settings.stop.labels is not None:
            budget = max(1, min(budget, settings.stop.labels - labels_made(self.state.rows)))
        levels = self._levels(load_model(self.model))
        if settings.choose.low is None and levels.low >= choose.DOUBTFUL:
            self.reporter.warn(
                f"by its validation error the committee knows little: low = {levels.low:.3g} eV/Å is taken instead of "
                "what follows from that; begin with more data, train longer, or give choose.low"
            )
        found = choose.run(
            choose.ChooseSettings(
                **settings.choose.model_dump(exclude={"budget", "low", "high"}),
                low=levels.low,
                high=levels.high,
                budget=budget,
                structures=[self.folder / "explored.extxyz"],
                known=self._files("train") + self._files("valid"),
                model=self.model,
                on_bad="skip",
                mode=self.mode,
                device=settings.committee.device,
                out=self.folder / "chosen.extxyz",
                decisions=self.folder / "decisions.csv",
                report=self.folder / "choice.html",
            ),
            self.reporter,
        )
        kinds = found.classes
        row |= {"accurate": kinds.get("accurate", 0), "candidates": kinds.get("candidate", 0)}
        row |= {"failed": kinds.get("failed", 0), "impossible": kinds.get("impossible", 0)}
        possible = max(1, row["accurate"] + row["candidates"] + row["failed"])
        row |= {"share": row["candidates"] / possible, "failed_share": row["failed"] / possible}
        row |= {"low": found.low, "high": found.high, "chosen": found.chosen}
        self.state.details[-1]["choice"] = self._choice()
        return not knows_enough(row, settings.stop) and not found.chosen

    def verify(self) -> bool:
        """Where the members know what was met: labels of some of that say whether they are right.

        The round is over if they are; if not, these labels are learned as those of chosen structures are.
        """
        stop, row = self.settings.stop, self.state.row
        if not knows_enough(row, stop):
            return False
        if stop.check == 0:
            return True
        left = stop.check if stop.labels is None else min(stop.check, stop.labels - labels_made(self.state.rows[:-1]))
        drawn = self._drawn(left)
        row |= {"checked": 0, "wrong": 0}
        if not drawn:
            return not row["chosen"]
        write_frames(self.folder / "checks.extxyz", drawn)
        if not self._computed([self.folder / "checks.extxyz"], self.folder / "checked.extxyz"):
            return not row["chosen"]
        errors = self._force_errors(self.folder / "checked.extxyz")
        row |= {"checked": len(errors), "wrong": sum(not error <= row["low"] for error in errors)}
        return proved(row, stop)

    def _drawn(self, count: int) -> list[Atoms]:
        """Structures that were met and about which the members agree, by lot."""
        with (self.folder / "decisions.csv").open(newline="", encoding="utf-8") as file:
            agreed = [k for k, line in enumerate(csv.DictReader(file)) if line["class"] == "accurate"]
        lot = stream(self.settings.seed, "verify", self.state.round).permutation(len(agreed))[: max(0, count)]
        taken = {agreed[k] for k in lot.tolist()}
        return [atoms for k, atoms in enumerate(images(self.folder / "explored.extxyz")) if k in taken]

    def _force_errors(self, file: Path) -> list[float]:
        """Of each labelled structure the root mean square of the errors of its force vectors (eV/Å)."""
        found = []
        for part in self._compared([file]):
            square = ((part.prediction.forces.cpu() - part.labelled.forces) ** 2).sum(1)
            found += [float(one.mean().sqrt()) for one in square.split([len(f.numbers) for f in part.frames])]
        return found

    def _choice(self) -> dict[str, dict[str, int]]:
        """What was met and chosen, by system and explorer."""
        kinds = [atoms.info["config_type"] for atoms in images(self.folder / "explored.extxyz")]
        out: dict[str, dict[str, int]] = {}
        with (self.folder / "decisions.csv").open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                counts = out.setdefault(str(kinds[int(line["structure"].rpartition("#")[2])]), {})
                for key in ("explored", line["class"], *(["chosen"] if line["rank"] else [])):
                    counts[key] = counts.get(key, 0) + 1
        return out

    def label(self) -> bool:
        """Labels of what was chosen; in round 0, of the data to begin with. The round is over where there are none."""
        out = self.folder / "labelled.extxyz"
        if self.state.round:
            files = [self.folder / name for name in ("chosen.extxyz", "checks.extxyz")]
            return not self._computed([path for path in files if path.exists()], out)
        first, computed = self.settings.initial, self.folder / "computed.extxyz"
        todo = list(first.structures)
        if first.steps:
            made, number = self.folder / "made.extxyz", integer(self.settings.seed, "initial") % 2**31
            if not made.exists():
                make_plan(list(first.steps), number, made, MECHANICS, self.reporter, self.settings.workers)
            todo.append(made)
        frames = given_frames(first.files, first.read, self.mode, bool(todo), self.reporter)
        if todo:
            if not self._computed(todo, computed):
                raise LabelError(f"nothing to begin with: the engine labelled none of {', '.join(map(str, todo))}")
            frames += images(computed)
        write_frames(out, frames)
        return False

    def _computed(self, structures: list[Path], out: Path) -> int:
        """Let the engine label structures; returns how many labels there are.

        Raises:
            LabelError: nothing can work: every structure failed for a reason that all others would share.
        """
        settings, state, row = self.settings, self.state, self.state.row
        how = label.LabelSettings(
            structures=structures,
            engine=settings.engine,
            out=out,
            cache=settings.cache or settings.out / "labels",
            workers=settings.workers,
            executor=settings.executor,
            self_check=settings.self_check and state.stress is None,
            isolated_atoms=settings.isolated_atoms,
            on_bad="skip",
        )
        try:
            done = label.run(how, self.reporter)
        except LabelError as error:
            lines = out.with_suffix(".failures.jsonl").read_text(encoding="utf-8").splitlines()
            kinds = Counter(json.loads(line)["kind"] for line in lines)
            if set(kinds) & HOPELESS:
                raise
            self.reporter.warn(f"{error}; the loop goes on without")
            row |= {"label_failures": len(lines), "labels": labels_made(state.rows) + len(lines)}
            state.details[-1]["failures"] = dict(kinds)
            return 0
        row |= {"labelled": done.labelled, "label_failures": done.failed}
        row["labels"] = labels_made(state.rows)
        state.details[-1]["failures"] = {f.kind: f.structures for f in done.failures}
        if how.self_check and any(bool(a.pbc.all()) for a in images(out)):
            state.stress = done.with_stress > 0
        return done.labelled

    def compare(self) -> None:
        """Errors of the committee on the new frames, which it has not learned yet."""
        found = self._errors([self.folder / "labelled.extxyz"])
        self.state.row.update({f"new_{name}": found.get(name) for name in ("energy_rmse", "force_rmse")})

    def divide(self) -> None:
        """New frames for training and for validation; isolated atoms are trained on, once."""
        state = self.state
        frames, atoms = [], []
        known = set(state.isolated)
        for one in images(self.folder / "labelled.extxyz"):
            if state.stress is False:
                one.info.pop("REF_stress", None)
            if len(one) > 1 or one.pbc.any():
                frames.append(one)
            elif int(one.numbers[0]) not in known:
                known.add(int(one.numbers[0]))
                atoms.append(one)
        part = self.settings.committee.valid
        order = stream(self.settings.seed, "valid", state.round).permutation(len(frames))
        for_valid = set(order[: max(1, round(part * len(frames)))].tolist()) if len(frames) > 1 else set()
        if state.round == 0 and not for_valid:
            raise DataError("initial: a single frame is not enough to begin with: give more, some are for validation")
        write_frames(self.folder / "train.extxyz", atoms + [a for k, a in enumerate(frames) if k not in for_valid])
        if for_valid:
            write_frames(self.folder / "valid.extxyz", [a for k, a in enumerate(frames) if k in for_valid])
        state.isolated = sorted(known)
        state.row["frames"] = sum(1 for path in self._files("train") for _ in images(path))

    def train(self) -> None:
        """Train the first committee; later ones warm, or anew."""
        settings, how = self.settings, self.settings.retrain
        new, old = self._files("train"), []
        start = self.model if self.state.round and isinstance(how, WarmRetraining) else None
        if start is not None:
            new, old = [self.folder / "train.extxyz"], [path for path in new if path.parent != self.folder]
        data = CommitteeData(new, old, self._files("valid"))
        seed = integer(settings.seed, "train", self.state.round) % 2**31
        done = train_committee(settings.committee, how, data, seed, start, self.folder / "model", self.reporter)
        self.state.model = str(done.model.relative_to(settings.out))
        errors = {e.quantity: e.rmse for e in done.errors if e.part == "valid" and e.frames == "all"}
        self.state.row.update({f"valid_{name}_rmse": errors.get(name) for name in ("energy", "force")})

    def calibrate(self) -> None:
        """Error bars from the spread of the committee on all frames for validation.

        They are checked on the test files, or on half of those frames where they are enough.
        """
        settings, files = self.settings, self._files("valid")
        frames = sum(1 for path in files for _ in images(path))
        apart = bool(settings.test) or frames // 2 >= _needed(settings.committee.coverage)
        if frames < FEWEST:
            self.reporter.warn(f"{frames} frames for validation are too few to calibrate on (below {FEWEST})")
        else:
            fitted = frames // 2 if apart and not settings.test else frames
            how = calibrate.CalibrateSettings(
                model=self.model,
                data=files,
                test=settings.test if settings.test or apart else files,
                coverage=min(settings.committee.coverage, round(fitted / (fitted + 1) - 0.005, 2)),
                out=self.folder / "calibration",
                seed=settings.seed,
                device=settings.committee.device,
            )
            heard = SilentReporter()
            done = calibrate.run(how, heard)
            for text in heard.warnings:
                self.reporter.info(text)
            if done.forces is not None:
                self.state.row["force_scale"] = done.forces.scale
                self.state.row["force_coverage"] = done.forces.measured if apart else None
        write_atomically(settings.out / MODEL_FILE, self.model.read_bytes())

    def check(self) -> None:
        """Errors of the new committee on the test files."""
        if self.settings.test:
            found = self._errors(self.settings.test)
            self.state.row.update({f"test_{name}": found.get(name) for name in ("energy_rmse", "force_rmse")})

    def _errors(self, files: Sequence[Path]) -> dict[str, float]:
        """Errors of the newest model on labelled frames, isolated atoms left out."""
        return errors_on(self._compared(files))

    def _compared(self, files: Sequence[Path]) -> Iterator[Compared]:
        """Labelled frames beside what the newest model says about them, isolated atoms left out."""
        return compared(self.model, files, self.settings.committee.device, self.reporter)

    def _round(self, number: int) -> Path:
        return self.settings.out / round_name(number)

    def _files(self, name: str) -> list[Path]:
        """The files of that name of all rounds that have one."""
        paths = (self._round(k) / f"{name}.extxyz" for k in range(self.state.round + 1))
        return [path for path in paths if path.exists()]


def _needed(coverage: float) -> int:
    """Frames that say something about a coverage: with n of them, error bars of at most n / (n + 1) are known."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def _without_numbers(text: str) -> str:
    """How a run ended, without when."""
    return text.partition(" after ")[0]
