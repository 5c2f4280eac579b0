"""Calculators that go wrong, for the tests of labelling."""

import os
import sys
import time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT


class Counts(EMT):
    """EMT that leaves a line in a file for each calculation."""

    def __init__(self, log=""):
        super().__init__()
        self.log = log

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        if self.log and system_changes:
            with Path(self.log).open("a") as file:
                file.write(f"{atoms.positions.sum():.12f}\n")
        super().calculate(atoms, properties, system_changes)


class Moody(Counts):
    """Does with a structure what the tag of its first atom, by the x of its first atom, says."""

    def __init__(self, log="", careful=False, seconds=60.0):
        super().__init__(log)
        self.careful, self.seconds = careful, seconds

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        mood = round(atoms.positions[0, 0])
        if mood == 1:
            sys.stdout.write("iteration 1: no end in sight\n")
            sys.stdout.flush()
            time.sleep(self.seconds)
        if mood == 2:
            sys.stdout.write("segmentation fault comes now\n")
            sys.stdout.flush()
            os._exit(139)
        if mood == 3:
            sys.stdout.write("SCF energy goes up and down\n")
            raise RuntimeError("SCF did not converge in 100 steps")
        super().calculate(atoms, properties, system_changes)
        if mood == 4:
            self.results["forces"] = np.full((len(atoms), 3), np.nan)
        if mood == 5 and not self.careful:
            raise RuntimeError("SCF not converged")
        if mood == 6:
            self.results["forces"] = self.results["forces"] + 7.0


class WrongForces(EMT):
    """Forces that are 10 % too large."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results["forces"] = self.results["forces"] * 1.1


class WrongStress(EMT):
    """A stress whose shape part has the wrong sign."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        if "stress" in self.results:
            stress = self.results["stress"].copy()
            mean = stress[:3].mean()
            stress[:3] = mean - (stress[:3] - mean)
            stress[3:] *= -1
            self.results["stress"] = stress


class NoStress(Calculator):
    """Springs without a stress."""

    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        moved = atoms.positions - atoms.positions.mean(axis=0)
        self.results = {"energy": 0.5 * (moved**2).sum(), "forces": -moved}
