"""Labelling many structures: what is known already, what is alike, the self-check, the work, the outcome of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ase import Atoms
from ase.data import ground_state_magnetic_moments
from pydantic import JsonValue

from rutile.core.executors.executor import Executor, Lost
from rutile.core.reporting import Reporter
from rutile.label.cache import LabelCache, key_of, settings_hash, short_hash
from rutile.label.catalogue import make
from rutile.label.cost import name_of
from rutile.label.labeler import Failure, Kind, Label, Labeler, Outcome
from rutile.label.selfcheck import Verdict, check_cell, judge_check, variations
from rutile.label.settings import EngineBase
from rutile.label.settings.common import Crystal, Molecule
from rutile.label.work import Work, close_all

NOT_KEPT: frozenset[Kind] = frozenset({"not installed", "missing pseudopotential", "unsuitable", "too large"})
"""Failures that are found again at once, and may have another answer tomorrow."""


@dataclass(frozen=True)
class Labelled:
    """Outcomes of many structures."""

    outcomes: list[Outcome]
    """One for each structure, in their order."""
    atoms: list[Atoms] = field(default_factory=list)
    """Isolated atoms of the elements of which none was given."""
    references: list[Outcome] = field(default_factory=list)
    """Their outcomes."""
    verdict: Verdict | None = None
    """Of the self-check; None: not made."""
    calc_mode: str = ""
    """Name of the reference method."""
    computed: int = 0
    """Calculations of this run, with those of the self-check and the isolated atoms."""
    known: int = 0
    """Structures whose label was known before."""


@dataclass(frozen=True)
class Campaign:
    """Labels structures with one engine."""

    settings: EngineBase
    """Of the engine."""
    cache: LabelCache
    """Where labels are kept."""
    executor: Executor
    """Who does the work."""
    reporter: Reporter
    """Told of progress."""
    retry_failed: bool = False
    """Compute what failed in an earlier run again."""

    def run(self, structures: Sequence[Atoms], self_check: bool = True, isolated_atoms: bool = True) -> Labelled:
        """Label structures; nothing that happens to one of them ends the others.

        Args:
            structures: to label.
            self_check: see first that forces and stress are derivatives of the energy.
            isolated_atoms: label an atom of each element, too; given ones are labelled as such.

        Raises:
            MissingPackageError: the engine is not installed.
            FileError: the cache cannot be written.
        """
        labeler = make(self.settings)
        try:
            version = labeler.probe(frozenset(z for a in structures for z in a.numbers.tolist()))
            labeler.close()  # those that work start their own
            self.reporter.info(f"{name_of(self.settings)}: {version}")
            return self._run(structures, labeler, version, self_check, isolated_atoms)
        finally:
            labeler.close()
            close_all()

    def check(self, structures: Sequence[Atoms], labeler: Labeler, version: str) -> tuple[Verdict, int]:
        """The self-check, and how many calculations it took.

        Args:
            structures: it is made on a small one of them, or on a usual one where none is small.
            labeler: the engine.
            version: of it.
        """
        cell = check_cell(structures, self.settings, labeler)
        outcomes, computed, _ = self._outcomes(variations(cell), self.settings, version, "Self-check")
        verdict = judge_check(cell, outcomes)
        sound = verdict.failure is None and (verdict.stress or verdict.stress_error is None)
        (self.reporter.info if sound else self.reporter.warn)(verdict.note)
        return verdict, computed

    def _run(
        self, structures: Sequence[Atoms], labeler: Labeler, version: str, self_check: bool, isolated_atoms: bool
    ) -> Labelled:
        """The steps, with an engine that is there."""
        mode, made_by = mode_of(self.settings, version), settings_hash(self.settings, version)
        computed, verdict = 0, None
        if self_check:
            verdict, computed = self.check(structures, labeler, version)
            if verdict.failure is not None:
                return Labelled([verdict.failure] * len(structures), verdict=verdict, calc_mode=mode, computed=computed)
        atoms = references(structures, self.settings) if isolated_atoms else []
        lone = [isolated_atoms and len(a) == 1 and not a.pbc.any() for a in structures]
        others = [a for a, alone in zip(structures, lone, strict=True) if not alone]
        outcomes, more, known = self._outcomes(others, self.settings, version, "Labelling")
        wanted = for_atoms(self.settings)
        found, extra, again = self._outcomes(atoms, wanted, version, "Isolated atoms")
        marks = {"code": version, "calc_mode": mode, "settings_hash": made_by} | described(self.settings)
        spins = {"spin": True} if isinstance(wanted, Crystal) and wanted.spin else {}
        marked = iter([_marked(o, marks, verdict) for o in outcomes])
        free = {int(a.numbers[0]): _marked(o, marks | spins, verdict) for a, o in zip(atoms, found, strict=True)}
        given = {int(a.numbers[0]) for a, alone in zip(structures, lone, strict=True) if alone}
        rest = [a for a in atoms if int(a.numbers[0]) not in given]
        return Labelled(
            [free[int(a.numbers[0])] if alone else next(marked) for a, alone in zip(structures, lone, strict=True)],
            rest,
            [free[int(a.numbers[0])] for a in rest],
            verdict,
            mode,
            computed + more + extra,
            known + (again if any(lone) else 0),
        )

    def _outcomes(
        self, structures: Sequence[Atoms], settings: EngineBase, version: str, what: str
    ) -> tuple[list[Outcome], int, int]:
        """Outcome of each structure, how many were computed, and for how many structures it was known."""
        made_by, how = settings_hash(settings, version), short_hash(settings.model_dump(mode="json"))
        keys = [key_of(a, made_by) for a in structures]
        found = self._kept(keys, how)
        known = sum(k in found for k in keys)
        todo = {key: atoms for key, atoms in zip(keys, structures, strict=True) if key not in found}
        names = list(todo)
        results = self.executor.each(Work(settings), list(todo.values()))
        for k, done in self.reporter.track(results, what, len(todo)) if todo else ():
            outcome = Failure("crashed", done.reason) if isinstance(done, Lost) else done
            found[names[k]] = outcome
            if isinstance(outcome, Label):
                self.cache.put(names[k], outcome)
            elif outcome.kind not in NOT_KEPT:
                self.cache.put_failure(names[k], how, outcome)
        return [found[k] for k in keys], len(todo), known

    def _kept(self, keys: Sequence[str], how: str) -> dict[str, Outcome]:
        """What is known already."""
        found: dict[str, Outcome] = {}
        look: list[Callable[[str], Outcome | None]] = [self.cache.get]
        if not self.retry_failed:
            look.append(lambda key: self.cache.failure(key, how))
        for key in dict.fromkeys(keys):
            outcome = next((o for o in (ask(key) for ask in look) if o is not None), None)
            if outcome is not None:
                found[key] = outcome
        return found


def mode_of(settings: EngineBase, version: str) -> str:
    """Name of the reference method: labels of one name can be trained on together."""
    if settings.calc_mode:
        return settings.calc_mode
    complete = settings.complete()
    words = [name_of(settings), complete.get("functional") or complete.get("method"), complete.get("basis")]
    if name_of(settings) in ("gpaw", "espresso", "cp2k", "abinit", "vasp", "aims", "orca", "gaussian", "pyscf"):
        words.append(settings.protocol)
    if name_of(settings) == "potential":
        words.append(version.split()[-1])
    kept = {k: v for k, v in settings.identity().items() if k != "pseudo_dir"}
    return "-".join([*(str(w) for w in words if w), short_hash(kept)[:6]])


def described(settings: EngineBase) -> dict[str, JsonValue]:
    """What a frame says about the settings by name."""
    complete = settings.complete()
    wanted = {"functional": "functional", "method": "functional", "cutoff": "cutoff", "basis": "basis"}
    return {name: complete[key] for key, name in wanted.items() if complete.get(key) is not None}


def for_atoms(settings: EngineBase) -> EngineBase:
    """Settings of isolated atoms: those of the rest, spin polarised where the engine knows of it."""
    return settings.model_copy(update={"spin": True}) if isinstance(settings, Crystal) else settings


def references(structures: Sequence[Atoms], settings: EngineBase) -> list[Atoms]:
    """An isolated atom of each element, with the spin of its ground state."""
    out = []
    for number in sorted({z for a in structures for z in a.numbers.tolist()}):
        atom = Atoms([number], positions=[(0.0, 0.0, 0.0)], info={"config_type": "isolated_atom"})
        moment = float(ground_state_magnetic_moments[number])
        if isinstance(settings, Crystal):
            atom.set_initial_magnetic_moments([moment])
        if isinstance(settings, Molecule):
            atom.info |= {"charge": 0, "multiplicity": round(moment) + 1}
        out.append(atom)
    return out


def _marked(outcome: Outcome, marks: dict[str, JsonValue], verdict: Verdict | None) -> Outcome:
    """A label with where it comes from, without a stress that failed the self-check."""
    if isinstance(outcome, Failure):
        return outcome
    stress = outcome.stress if verdict is None or verdict.stress else None
    return dataclasses.replace(outcome, stress=stress, provenance=dict(marks) | outcome.provenance)
