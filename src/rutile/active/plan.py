"""Settings of the loop of active learning: systems and how they are explored, the committee, when to stop.

Imports no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from rutile.build.settings import AnyBuilder, Share, Sizes, Temperatures
from rutile.core.settings import Settings, merged
from rutile.core.units import HOTTEST, Angstrom, EVPerAngstrom, Femtosecond, GigaPascal, Kelvin, Second
from rutile.data.settings import ReadSettings, ReferenceSettings
from rutile.potentials.settings import BehlerSettings, PotentialSettings, training_defaults
from rutile.simulate.settings import CellMode
from rutile.train.settings import TrainSettings

Hot = Annotated[Kelvin, Field(gt=0, le=HOTTEST)]
Ramp = tuple[Hot, Hot]
Pressures = tuple[GigaPascal, GigaPascal]


class ExplorerBase(Settings):
    """What all explorers have."""

    NEEDS_SEEDS: ClassVar[bool] = True
    """Whether it begins with the structures of its system."""

    label: str = Field(default="", pattern=r"^[A-Za-z0-9_.+-]*$")
    """Name in the report; default: the name of the explorer. Two of one kind in a system need different ones."""

    @property
    def title(self) -> str:
        """Name in the report."""
        return self.label or str(getattr(self, "name", ""))


class MdExplorer(ExplorerBase):
    """Molecular dynamics on the committee's mean, with ramps; a run ends where the members disagree too much."""

    name: Literal["md"] = "md"
    temperature: Ramp = (300.0, 1500.0)
    """Temperature at the beginning and at the end of each run; it changes evenly."""
    pressure: Pressures | None = None
    """Pressure at the beginning and at the end (NPT: the cell changes its size and shape); null: the cell stays (NVT).
    Of structures that are not periodic in three directions the cell always stays."""
    time: Femtosecond = Field(default=1000.0, gt=0)
    """Length of each run."""
    timestep: Femtosecond = Field(default=1.0, gt=0)
    """Time step."""
    every: int = Field(default=20, ge=1)
    """Steps between two structures that are kept."""
    runs: int = Field(default=4, ge=1)
    """Runs in each round; the structures of the system take turns."""
    friction_time: Femtosecond = Field(default=50.0, gt=0)
    """Time in which the thermostat takes and gives energy."""
    barostat_time: Femtosecond = Field(default=500.0, gt=0)
    """Time in which the cell answers to the pressure."""


class RelaxExplorer(ExplorerBase):
    """Relaxations on the committee's mean of displaced structures, and what lies on their way."""

    name: Literal["relax"] = "relax"
    runs: int = Field(default=4, ge=1)
    """Relaxations in each round; the structures of the system take turns."""
    rattle: Angstrom = Field(default=0.2, ge=0)
    """Standard deviation of the displacements of atoms in each direction before."""
    cell: CellMode = "none"
    """What of the cell moves: none, full, isotropic, volume."""
    pressure: GigaPascal = 0.0
    """Outer pressure, where the cell moves."""
    fmax: EVPerAngstrom = Field(default=0.05, gt=0)
    """Relaxed when no atom feels a larger force."""
    steps: int = Field(default=100, ge=1)
    """Steps at most."""
    every: int = Field(default=20, ge=1)
    """Steps between two structures that are kept."""


class RandomExplorer(ExplorerBase):
    """Random structures of the compositions of the system: packings without order, and crystals of any space group."""

    name: Literal["random"] = "random"
    count: int = Field(default=20, ge=1)
    """Structures in each round."""
    crystals: Share = 0.5
    """Part of them that are random crystals; the others are packings."""
    atoms: Sizes = (4, 24)
    """Numbers of atoms, as whole formulas."""


class NormalModesExplorer(ExplorerBase):
    """Molecules relaxed on the committee's mean and displaced along its normal modes (Smith et al. 2017)."""

    name: Literal["normal_modes"] = "normal_modes"
    count: int = Field(default=20, ge=1)
    """Structures in each round; the molecules of the system take turns."""
    temperature: Temperatures = (300.0, 2000.0)
    """Temperature, drawn between these."""
    largest_displacement: Angstrom = Field(default=1.0, gt=0)
    """Structures with an atom that moved farther are left out."""


class NebExplorer(ExplorerBase):
    """Paths between two structures by the nudged elastic band, and what lies on the way to them."""

    NEEDS_SEEDS: ClassVar[bool] = False

    name: Literal["neb"] = "neb"
    start: Path
    """File whose last structure is the one end; the committee relaxes both ends first."""
    end: Path
    """File whose last structure is the other end: the same atoms in the same order, the same cell."""
    images: int = Field(default=5, ge=1)
    """Structures between the ends."""
    climb: bool = False
    """Let the highest image climb to the saddle point."""
    fmax: EVPerAngstrom = Field(default=0.1, gt=0)
    """The path is found when no image feels a larger force across it."""
    steps: int = Field(default=50, ge=1)
    """Steps at most."""
    every: int = Field(default=10, ge=1)
    """Steps between two times that all images are kept."""


class GenerateExplorer(ExplorerBase):
    """Structures by builders, as of `rutile generate`; other ones in each round."""

    NEEDS_SEEDS: ClassVar[bool] = False

    name: Literal["generate"] = "generate"
    steps: list[AnyBuilder] = Field(min_length=1)
    """Builders by `name`. Forces of a melt may be those of `model.rutile` in the folder of the loop: the newest."""


class FilesExplorer(ExplorerBase):
    """A pool of structures in files: trajectories, a database, what others proposed."""

    NEEDS_SEEDS: ClassVar[bool] = False

    name: Literal["files"] = "files"
    files: list[Path] = Field(min_length=1)
    """Files, folders or patterns of structures; labels in them are ignored."""
    count: int | None = Field(default=None, ge=1)
    """So many of them in each round, drawn at random; null: all."""


Explorer = Annotated[
    MdExplorer | RelaxExplorer | RandomExplorer | NormalModesExplorer | NebExplorer | GenerateExplorer | FilesExplorer,
    Field(discriminator="name"),
]
"""Settings of any explorer."""


class SystemSettings(Settings):
    """Something to be learned: the structures that exploration begins with, and how to explore."""

    label: str = Field(pattern=r"^[A-Za-z0-9_.+-]+$")
    """Name in the report and in the frames (config_type)."""
    files: list[Path] = []
    """Files, folders or patterns of structures to begin with; labels in them are ignored."""
    steps: list[AnyBuilder] = []
    """Builders, as of `rutile generate`, of structures to begin with; other ones in each round."""
    explorers: list[Explorer] = Field(min_length=1)
    """How to explore; `name` chooses: md, relax, random, normal_modes, neb, generate, files."""

    @model_validator(mode="after")
    def _can_begin(self) -> Self:
        titles = [e.title for e in self.explorers]
        for explorer in self.explorers:
            if explorer.NEEDS_SEEDS and not (self.files or self.steps):
                raise ValueError(f"{self.label}: {explorer.name} needs structures to begin with: give files or steps")
            if titles.count(explorer.title) > 1:
                raise ValueError(f"{self.label}: two explorers are named {explorer.title}: give them different labels")
        return self


class InitialSettings(Settings):
    """The data to begin with; several of the three together, too."""

    files: list[Path] = []
    """Files with labelled structures."""
    structures: list[Path] = []
    """Files with structures that the engine labels first."""
    steps: list[AnyBuilder] = []
    """Builders, as of `rutile generate`, of structures that the engine labels first."""
    read: ReadSettings = ReadSettings()
    """How to read the labelled files."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.files or self.structures or self.steps):
            raise ValueError("nothing to begin with: give files with labels, or structures or steps to be labelled")
        return self


class CommitteeSettings(TrainSettings):
    """The committee and its training; what is not given suits the potential."""

    potential: PotentialSettings = BehlerSettings()
    """What to train."""
    members: int = Field(default=4, ge=1)
    """Potentials, which differ in their first weights; 1 only for a potential with several heads."""
    diversity: Literal["seeds", "bootstrap", "folds"] = "seeds"
    """In what else they differ, as of `rutile train`."""
    workers: int | None = Field(default=None, ge=1)
    """Members trained at a time, as of `rutile train`."""
    references: ReferenceSettings = ReferenceSettings()
    """Energies of the isolated atoms."""
    valid: float = Field(default=0.15, gt=0, lt=1)
    """Part of the new frames of each round that is not trained on: for the choice of weights and the calibration."""
    coverage: float = Field(default=0.9, gt=0, lt=1)
    """Calibration: part of the reference values that shall lie within the error bars (dimensionless)."""

    @classmethod
    def suited(cls, data: Any) -> Any:
        """Epochs, learning rate and the like that are not given are those that suit the potential."""
        if not isinstance(data, dict):
            return data
        potential = data.get("potential", {})
        name = potential.get("name", "behler") if isinstance(potential, dict) else getattr(potential, "name", potential)
        return merged(training_defaults(str(name)), data)

    @model_validator(mode="after")
    def _can_disagree(self) -> Self:
        heads = getattr(self.potential, "heads", 1)
        if self.members * heads < 2:
            raise ValueError("one potential cannot disagree with itself: give members=4, or potential.heads=8")
        return self


class WarmRetraining(Settings):
    """Each round goes on with the weights of the last one: new frames and replayed old ones."""

    name: Literal["warm"] = "warm"
    epochs: int = Field(default=100, ge=1)
    """Passes over the frames."""
    rate: float = Field(default=0.3, gt=0)
    """Learning rate, as a part of that of the first training (dimensionless)."""
    gamma: float = Field(default=0.5, ge=0)
    """FL_i: power (dimensionless) with which frames that are hard to learn count more; 0: all count alike."""
    replay_fraction: float = Field(default=0.8, gt=0, lt=1)
    """Part of the training frames that are old ones (dimensionless), drawn at random; at most as many as there are."""
    old_weight: float = Field(default=1.0, gt=0)
    """Weight of each old frame in the loss (dimensionless); a new one counts 1."""


class NewTraining(Settings):
    """Each round trains from new weights on all frames."""

    name: Literal["anew"] = "anew"


Retraining = Annotated[WarmRetraining | NewTraining, Field(discriminator="name")]


class StopSettings(Settings):
    """When the loop ends; the first that comes true."""

    candidates: float = Field(default=0.05, ge=0, le=1)
    """When the share of candidates among the explored structures that are possible is not above this (dimensionless):
    the committee knows what it meets, ..."""
    failed: float = Field(default=0.1, ge=0, le=1)
    """... as long as no larger share than this (dimensionless) is beyond the failed level ..."""
    check: int = Field(default=10, ge=0)
    """... and as so many structures about which the members agree, drawn by lot and labelled, say so, too; 0: the word
    of the members is enough."""
    wrong: float = Field(default=0.1, ge=0, lt=1)
    """The check is failed where a larger share of them than this (dimensionless) has an error of the forces, as root
    mean square of the vectors, above `choose.low`; then they are learned and the loop goes on."""
    rounds: int = Field(default=10, ge=0)
    """After so many rounds; 0: only the first training."""
    labels: int | None = Field(default=None, ge=1)
    """When so many labels were made, those of the first data with them; files with labels cost none."""
    seconds: Second | None = Field(default=None, gt=0)
    """When no new round should begin because the work has taken so long, all runs of the command together."""
