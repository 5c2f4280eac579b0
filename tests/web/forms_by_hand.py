"""A hand that fills the forms of tasks as people do, and small things that lie ready for it."""

import io
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import ase.build
import ase.io
from ase import Atoms


@dataclass
class Shelf:
    """Small things of a platform, each made when a form first wants it; all are called by their names."""

    site: object
    numbers: dict[str, int] = field(default_factory=dict)

    def job(self, name):
        """The number of a finished job; of one that trains a potential, which then is in the registry."""
        if name not in self.numbers:
            task, settings = JOBS[name](self)
            self.numbers[name] = self.site.done(task, name=name, **settings)
        return self.numbers[name]

    models = job

    def structures(self, name):
        """The reference of a stored structure."""
        if name not in self.numbers:
            text = io.StringIO()
            ase.io.write(text, STRUCTURES[name](), format="extxyz")
            self.numbers[name] = self.site.post("structures", {"name": name, "text": text.getvalue()})["id"]
        return f"structure:{self.numbers[name]}"

    def datasets(self, name):
        """The reference of a data set that has been read."""
        if name not in self.numbers:
            self.numbers[name] = self.site.post("datasets", {"name": name, "file": self.silicon})["id"]
            while self.site.get(f"datasets/{self.numbers[name]}")["versions"][-1]["state"] == "reading":
                time.sleep(0.1)
        return f"dataset:{self.numbers[name]}"

    @property
    def silicon(self):
        """The labelled silicon that comes with rutile."""
        return f"job:{self.job('labelled')}/silicon.extxyz"


@dataclass
class Hand:
    """Fills a form: each setting by its key."""

    tab: object
    shelf: Shelf

    def setting(self, key):
        """The field of a setting; what is folded around it is opened first."""
        for around in [key[:at] for at, sign in enumerate(key) if sign == "."]:
            group = self.tab.locator(f'[data-key="{around}"] > details:not([open]) > summary')
            if group.count():
                group.click()
        return self.tab.locator(f'[data-key="{key}"]')

    def pick(self, key, where, name, path=""):
        """Choose what the platform holds: `where` is a tab of the picker, `path` a file of a job."""
        if where in ("structures", "datasets", "models", "job"):
            getattr(self.shelf, where)(name)
        self.setting(key).get_by_role("button", name=re.compile("^Choose ")).first.click()
        box = self.tab.get_by_role("dialog")
        box.get_by_role("tab", name=TABS[where]).click()
        if where == "job":
            box.get_by_role("button", name=re.compile(rf"^\d+ {name} ")).click()
            box.get_by_role("region", name="Files").get_by_role(
                "button", name=re.compile(f"^{re.escape(path)}")
            ).first.click()
        else:
            box.get_by_role("button", name=name, exact=True).first.click()
        box.wait_for(state="detached")

    def choose(self, key, kind):
        """Choose one of several kinds."""
        self.setting(key).get_by_role("combobox").first.select_option(kind)

    def write(self, key, words):
        """Type into the input of a setting."""
        self.setting(key).get_by_role("textbox").first.fill(words)

    def entry(self, key, name, value):
        """Add a value of a name that the user chooses."""
        setting = self.setting(key)
        setting.get_by_placeholder("Name").first.fill(name)
        setting.get_by_role("button", name=re.compile("^Add: ")).first.click()
        setting.get_by_role("textbox", name=re.compile(rf"\b{name}(, as JSON)?$")).first.fill(value)

    def press(self, key, name):
        """Press a button of a setting."""
        self.setting(key).get_by_role("button", name=name).first.click()


TABS = {
    "ready": "Potentials that need no file", "structures": "Structures", "datasets": "Data sets", "models": "Models",
    "job": "Files of jobs",
}  # fmt: skip


def _vacancy(moved):
    """Copper with a vacancy; moved: a neighbour of it jumped in."""
    atoms = ase.build.bulk("Cu", cubic=True) * (2, 2, 2)
    empty = atoms.positions[0].copy()
    near = atoms.get_distances(0, range(1, len(atoms)), mic=True).argmin() + 1
    if moved:
        atoms.positions[near] = empty
    del atoms[0]
    return atoms


def _slab():
    slab = ase.build.fcc100("Cu", (2, 2, 3), vacuum=6.0, periodic=True)
    slab.info.clear()
    return slab


def _alloy():
    atoms = ase.build.bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.symbols[::2] = "Ag"
    return atoms


STRUCTURES: dict[str, Callable[[], Atoms]] = {
    "copper": lambda: ase.build.bulk("Cu", cubic=True),
    "silicon": lambda: ase.build.bulk("Si", cubic=True),
    "argon": lambda: ase.build.bulk("Ar", "fcc", 5.3, cubic=True),
    "dimer": lambda: Atoms("Cu2", [[0, 0, 0], [0, 0, 2.4]]),
    "before": lambda: _vacancy(False),
    "after": lambda: _vacancy(True),
    "slab": _slab,
    "alloy": _alloy,
}
JOBS = {
    "labelled": lambda shelf: ("starter", {"names": ["silicon"]}),
    "committee": lambda shelf: ("train", {"data": [shelf.silicon], "members": 2, "epochs": 2, "write_report": False}),
    "single": lambda shelf: ("train", {"data": [shelf.silicon], "epochs": 2, "write_report": False}),
    "embedded": lambda shelf: (
        "train",
        {"data": [shelf.silicon], "potential": {"name": "deeppot_se"}, "epochs": 1, "write_report": False},
    ),
    "clusters": lambda shelf: (
        "build",
        {"builder": {"name": "cluster", "elements": ["Cu"], "atoms": [4, 8], "count": 30}, "out": "built.extxyz"},
    ),
    "run": lambda shelf: ("md", {"structures": [shelf.structures("copper")], "model": "emt", "time": 1.0, "every": 10}),
    "gold": lambda shelf: ("search", {"formula": "Cu3Au", "model": "emt", "relaxations": 20, "first": 6}),
}
