"""Settings of training: loss, optimizer, schedule, stopping. Imports no torch, so that help is instant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from rutile.core.settings import Settings, merged
from rutile.core.units import EVPerAngstrom, Gigabyte, Megabyte, Second
from rutile.data.settings import ReadSettings, ReferenceSettings, SplitSettings
from rutile.potentials.settings import BehlerSettings, PotentialSettings, training_defaults
from rutile.potentials.settings.stored import stored_members


class Prefactor(Settings):
    """Weight of one loss term, following the learning rate: p = limit (1 - lr/lr0) + start lr/lr0."""

    start: float = Field(default=0.0, ge=0)
    """Weight while the learning rate is at its start. The term is active only if start and limit are both above 0."""
    limit: float = Field(default=0.0, ge=0)
    """Weight that is reached as the learning rate goes to 0."""

    @property
    def active(self) -> bool:
        """Whether the term is part of the loss."""
        return self.start > 0 and self.limit > 0


class LossSettings(Settings):
    """Terms of the loss; `PHYSICS` of the project: DeePMD's loss with prefactors that follow the learning rate."""

    energy: Prefactor = Prefactor(start=1.0, limit=100.0)
    """Weight of the energy term, errors in eV/atom. (DeePMD's usual weights: energy 1 to 400, force 1000 to 1.)"""
    force: Prefactor = Prefactor(start=1.0, limit=1.0)
    """Weight of the force term, errors of components in eV/Å."""
    virial: Prefactor = Prefactor()
    """Weight of the virial term, errors in eV/atom; virial = -dE/dstrain = -V stress. Off by default."""
    kind: Literal["mse", "huber", "l1"] = "mse"
    """What an error costs: its square, Huber's function (quadratic inside `delta`, linear outside), its size."""
    delta: float = Field(default=0.01, gt=0)
    """Where Huber's function turns linear (eV/atom for energy and virial, eV/Å for forces)."""
    convention: Literal["per_atom", "deepmd-kit"] = "per_atom"
    """per_atom: squared errors of energy and virial per atom (the paper: 1/N^2). deepmd-kit: that program's default,
    the squared error of the total divided by N once; a weight there means N times less than in the paper."""

    @model_validator(mode="after")
    def _some_term(self) -> LossSettings:
        if not (self.energy.active or self.force.active or self.virial.active):
            raise ValueError("no loss term is active: give energy, force or virial a start and a limit above 0")
        return self


class Adadelta(Settings):
    """Adadelta (Zeiler 2012)."""

    name: Literal["adadelta"] = "adadelta"
    learning_rate: float = Field(default=1.0, gt=0)
    """Step size at the start."""
    rho: float = Field(default=0.9, ge=0, lt=1)
    """Memory of the running averages."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 penalty."""


class Adam(Settings):
    """Adam (Kingma and Ba 2014)."""

    name: Literal["adam"] = "adam"
    learning_rate: float = Field(default=0.001, gt=0)
    """Step size at the start."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Memory of the gradient's average."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Memory of the average of its square."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 penalty."""
    amsgrad: bool = False
    """Use the largest average of squares so far."""


class AdamW(Settings):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017)."""

    name: Literal["adamw"] = "adamw"
    learning_rate: float = Field(default=0.001, gt=0)
    """Step size at the start."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Memory of the gradient's average."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Memory of the average of its square."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decay of the weights per step, times the learning rate."""


class Adamax(Settings):
    """Adamax: Adam with the infinity norm (Kingma and Ba 2014)."""

    name: Literal["adamax"] = "adamax"
    learning_rate: float = Field(default=0.002, gt=0)
    """Step size at the start."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Memory of the gradient's average."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Memory of the norm."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 penalty."""


class Asgd(Settings):
    """Averaged stochastic gradient descent (Polyak and Juditsky 1992)."""

    name: Literal["asgd"] = "asgd"
    learning_rate: float = Field(default=0.01, gt=0)
    """Step size at the start."""
    lambd: float = Field(default=1e-4, ge=0)
    """Decay term."""
    alpha: float = Field(default=0.75, ge=0)
    """Power of the decay of the step size."""
    t0: float = Field(default=1e6, ge=0)
    """Step at which averaging begins."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 penalty."""


class Sgd(Settings):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    learning_rate: float = Field(default=0.01, gt=0)
    """Step size at the start."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Share of the previous step that is kept."""
    nesterov: bool = False
    """Nesterov's variant; needs momentum."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 penalty."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Rprop(Settings):
    """Resilient backpropagation (Riedmiller and Braun 1993); one step per epoch, with all structures."""

    name: Literal["rprop"] = "rprop"
    learning_rate: float = Field(default=0.01, gt=0)
    """First step of every weight."""
    shrink: float = Field(default=0.5, gt=0, lt=1)
    """Factor of the step after a change of sign."""
    grow: float = Field(default=1.2, gt=1)
    """Factor of the step while the sign stays."""
    smallest: float = Field(default=1e-6, gt=0)
    """Smallest step."""
    largest: float = Field(default=50.0, gt=0)
    """Largest step."""


class RmsProp(Settings):
    """RMSprop (Tieleman and Hinton 2012)."""

    name: Literal["rmsprop"] = "rmsprop"
    learning_rate: float = Field(default=0.001, gt=0)
    """Step size at the start."""
    alpha: float = Field(default=0.99, ge=0, lt=1)
    """Memory of the average of squares."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Share of the previous step that is kept."""
    centered: bool = False
    """Normalise by the variance instead of the mean square."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 penalty."""


class Lbfgs(Settings):
    """Limited-memory BFGS (Liu and Nocedal 1989) and strong-Wolfe line search; each step takes all structures."""

    name: Literal["lbfgs"] = "lbfgs"
    learning_rate: float = Field(default=1.0, gt=0)
    """First trial step of each line search."""
    iterations: int = Field(default=10, ge=1)
    """Iterations in each epoch."""
    history: int = Field(default=50, ge=1)
    """Pairs of steps and gradient changes that are remembered."""


class Muon(Settings):
    """Muon: momentum orthogonalised by Newton-Schulz (Jordan 2024) for weight matrices, AdamW for the rest.

    Narrow matrices (such as the vectors of a few elements, or the weights of a single output) are left to AdamW:
    orthogonal steps move what the data hardly determine as far as what they determine well, and frames unlike the
    training set then fare worse (docs/decisions/0014).
    """

    name: Literal["muon"] = "muon"
    learning_rate: float = Field(default=0.02, gt=0)
    """Step size of the matrices at the start."""
    narrowest: int = Field(default=8, ge=1)
    """Rows and columns, whichever are fewer, from which on a matrix is moved by Muon."""
    other_learning_rate: float = Field(default=0.001, gt=0)
    """Step size of all other parameters at the start."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Memory of the gradient's average."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the weights per step, times the learning rate."""


OptimizerSettings = Annotated[
    Adadelta | Adam | AdamW | Adamax | Asgd | Sgd | Rprop | RmsProp | Lbfgs | Muon, Field(discriminator="name")
]


class Constant(Settings):
    """The learning rate stays."""

    name: Literal["constant"] = "constant"


class Exponential(Settings):
    """DeePMD's decay: lr = lr0 rate^(t / steps), t the number of steps taken (after the warm-up)."""

    name: Literal["exponential"] = "exponential"
    steps: int | None = Field(default=None, ge=1)
    """Steps between two decays. Default: a hundredth of the whole training."""
    rate: float | None = Field(default=None, gt=0, le=1)
    """Factor of each decay. Default: what leads to `stop` at the end of the training."""
    stop: float = Field(default=0.01, gt=0, le=1)
    """Learning rate at the end, as a part of the first one; used when `rate` is not given."""
    smooth: bool = False
    """Decay a little at every step instead of in stairs."""


class Cosine(Settings):
    """lr = lr0 (stop + (1 - stop) (1 + cos(pi t/T)) / 2) over the whole training."""

    name: Literal["cosine"] = "cosine"
    stop: float = Field(default=0.001, ge=0, le=1)
    """Learning rate at the end, as a part of the first one."""


class Plateau(Settings):
    """Lower the learning rate when the validation score stops falling."""

    name: Literal["plateau"] = "plateau"
    factor: float = Field(default=0.5, gt=0, lt=1)
    """Factor of each lowering."""
    patience: int = Field(default=20, ge=1)
    """Validations without a better score before a lowering."""
    threshold: float = Field(default=0.001, ge=0, lt=1)
    """A score counts as better when it is lower by this part of the best one."""
    stop: float = Field(default=0.001, ge=0, le=1)
    """Lowest learning rate, as a part of the first one."""


ScheduleSettings = Annotated[Constant | Exponential | Cosine | Plateau, Field(discriminator="name")]


class WandbSettings(Settings):
    """Metrics to Weights & Biases, with the key of `wandb login`; needs the package wandb."""

    project: str = "rutile"
    """Project that the run belongs to."""
    name: str | None = None
    """Name of the run. Default: its folder."""
    mode: Literal["online", "offline"] | None = None
    """offline: into the folder of the run, for `wandb sync` later. Default: as the variable WANDB_MODE says, else
    online."""


class MlflowSettings(Settings):
    """Metrics to MLflow; needs the package mlflow."""

    experiment: str = "rutile"
    """Experiment that the run belongs to; made if there is none of that name."""
    name: str | None = None
    """Name of the run. Default: its folder."""
    uri: str | None = None
    """Where runs are kept: address of a server, sqlite:///file.db, or a folder. Default: as the variable
    MLFLOW_TRACKING_URI says, else mlflow.db in the working directory; `mlflow ui` shows it."""


WEIGHTS_FILE = "weights.csv"
"""In the folder of a run whose structures do not count alike: structures, losses and weights, the hardest first."""


class ReweightSettings(Settings):
    """Weights of structures from their last losses: FL_i = (n loss_i / sum_j loss_j)^gamma, without gradient.

    What is hard to learn counts more. Structures that have not been seen yet count 1.
    """

    gamma: float = Field(default=0.0, ge=0)
    """Power. 0: all structures count alike; 0.5: hard ones count somewhat more; above 1 a few may rule the training."""
    clip: tuple[float, float] | None = (0.05, 20.0)
    """Smallest and largest weight (dimensionless); null: none."""
    normalise: bool = False
    """Scale the weights to a mean of 1. Their mean is below 1 for gamma under 1 and above 1 for gamma over 1."""
    every: float = Field(default=1.0, gt=0, le=1)
    """Parts of an epoch between two updates of the weights (dimensionless)."""
    memory: float = Field(default=0.0, ge=0, lt=1)
    """Part of a structure's earlier loss in its running average (dimensionless); 0: the last loss alone."""
    suspect: float | None = Field(default=100.0, gt=1)
    """A structure whose loss is so many times the median (dimensionless) may have a wrong label: it is named and counts
    1; null: never."""

    @model_validator(mode="after")
    def _clip_around_one(self) -> ReweightSettings:
        if self.clip is not None and not 0 < self.clip[0] <= 1 <= self.clip[1]:
            raise ValueError(f"clip: the smallest weight must be in (0, 1], the largest at least 1, not {self.clip}")
        return self


class TrainSettings(Settings):
    """How the weights are found."""

    loss: LossSettings = LossSettings()
    """Terms of the loss."""
    optimizer: OptimizerSettings = Adam(learning_rate=0.003)
    """What moves the weights; `name` chooses: adadelta, adam, adamax, asgd, sgd, rprop, rmsprop, adamw, lbfgs, muon."""
    reweight: ReweightSettings = ReweightSettings()
    """Make structures that are hard to learn count more (FL_i); off by default."""
    schedule: ScheduleSettings = Exponential()
    """How the learning rate falls; `name` chooses: constant, exponential, cosine, plateau."""
    warmup: int = Field(default=0, ge=0)
    """Steps in which the learning rate rises linearly from 0 to its start."""
    epochs: int = Field(default=250, ge=1)
    """Passes over the training structures."""
    max_seconds: Second | None = Field(default=None, gt=0)
    """Stop when training has taken this long; the model so far is kept and the run can go on later."""
    batch_size: int = Field(default=8, ge=1)
    """Structures in a step. Ignored by rprop and lbfgs, whose steps take all structures."""
    batch_edges: int | None = Field(default=None, ge=1)
    """Limit the neighbour pairs of a step instead of its structures; for data of very different sizes. All structures
    count alike, however many share a step."""
    accumulate: int = Field(default=1, ge=1)
    """Compute each step in so many parts, one after another: less memory, the same result up to rounding. Ignored by
    rprop and lbfgs."""
    precision: Literal["float32", "float64"] = "float32"
    """Precision of weights, descriptors and arithmetic while training. float32 takes half the memory and time; lbfgs
    converges further in float64."""
    device: str = "auto"
    """Where to compute: cpu, cuda, cuda:1, or auto: a GPU if there is one, else the CPU. A run may go on elsewhere."""
    matmul: Literal["full", "tf32", "bf16"] = "full"
    """Matrix products of dense layers in training. full: as `precision`; bf16 and tf32 (GPUs only): factors rounded to
    8 and 11 bits, sums in float32. Geometry, radial functions, sums of energies and validation are not rounded."""
    compile: bool = False
    """Compile energies and forces to one graph before the training: steps of networks on graphs become faster. Takes
    minutes at its first start and a C++ compiler; checked against plain training, which goes on if it fails."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Shorten the gradient to this norm."""
    ema: float | None = Field(default=0.99, gt=0, lt=1)
    """Decay of a running average of the weights, which is then validated and saved; null: none."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs between two validations."""
    keep: Literal["best", "last"] = "best"
    """Weights the model gets: those of the best validation, or those at the end (the average with ema). With `last` the
    validation structures choose nothing, and a few extreme ones cannot."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many validations without a better score."""
    force_limit: EVPerAngstrom | None = Field(default=None, gt=0)
    """Leave structures with a larger force component out of training (they stay in validation); each is listed."""
    checkpoint_seconds: Second = Field(default=30.0, ge=0)
    """Least time between two checkpoints; 0: one after every step."""
    cache_memory: Megabyte = Field(default=4000.0, gt=0)
    """Keep descriptors in memory up to this size, beyond it in files in the output folder."""
    cache_disk: Gigabyte = Field(default=20.0, ge=0)
    """Most room of these files, for each process. Descriptors that would need more are computed in every step;
    neighbour lists of a large store are kept up to this size."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of PyTorch. Default: as PyTorch chooses."""
    seed: int = Field(default=0, ge=0)
    """Of the first weights and of the order of the structures; same seed, same potential."""
    tensorboard: bool = True
    """Write TensorBoard events beside metrics.csv, if that package is installed."""
    wandb: WandbSettings | None = None
    """Send the metrics to Weights & Biases too: wandb={} or wandb.project=oxides."""
    mlflow: MlflowSettings | None = None
    """Send the metrics to MLflow too: mlflow={} or mlflow.experiment=oxides."""

    @model_validator(mode="after")
    def _rounded_products_suit(self) -> Self:
        if self.matmul != "full" and self.precision != "float32":
            raise ValueError(f"matmul={self.matmul} is for float32: say precision=float32, or leave matmul out")
        if self.matmul == "tf32" and self.compile:
            raise ValueError("matmul=tf32 cannot be compiled: say matmul=bf16, or leave compile out")
        return self


class JobSettings(TrainSettings):
    """What to train on what, and how: all that `prepare` and `fit` need."""

    ALIASES: ClassVar[dict[str, str]] = {"architecture": "potential.name", "modes": "read.modes"}

    data: list[Path] = Field(min_length=1)
    """Files with labelled structures; or a store of them (`rutile convert ... out=NAME.store`), which is read where it
    is."""
    potential: PotentialSettings = BehlerSettings()
    """What to train."""
    read: ReadSettings = ReadSettings()
    """How to read the files."""
    split: SplitSettings = SplitSettings()
    """Which structures choose the best weights (validation), and which only measure errors at the end (test)."""
    references: ReferenceSettings = ReferenceSettings()
    """Energies of the isolated atoms."""
    start_from: Path | None = None
    """Begin with the weights of this model (file, or folder of a run) and a fresh optimizer; its potential settings,
    scaling and reference energies are kept, `potential` is not needed. New elements and reference methods are added."""
    replay: list[Path] = []
    """Files with old data that are trained on beside the new, so that the model does not forget them; errors on some
    old structures that are not trained on are measured before and after."""
    replay_fraction: float = Field(default=0.5, gt=0, lt=1)
    """Fraction of the training structures that are replayed ones, chosen at random; at most as many as there are."""
    replay_weight: float = Field(default=1.0, gt=0)
    """Weight of each replayed structure in the loss; a new one counts 1."""
    freeze: list[str] = []
    """Parameters that are not trained, by name or pattern such as "embedding.*"."""
    lora_rank: int | None = Field(default=None, ge=1)
    """Train updates of so low a rank instead of the matrices (LoRA); vectors are trained unless they are frozen."""
    mode_balance: float = Field(default=1.0, ge=0, le=1)
    """Weight of a reference method of n structures: n to this power. 1: all structures count alike; 0: all methods
    do; 0.5: the usual compromise for data sets of very different sizes."""

    @classmethod
    def suited(cls, data: Any) -> Any:
        """Epochs, learning rate and the like that are not given are those that suit the potential."""
        if not isinstance(data, dict):
            return data
        potential = data.get("potential")
        name = potential.get("name") if isinstance(potential, dict) else getattr(potential, "name", None)
        if name is None and data.get("start_from") is not None:
            name = next(iter(stored_members(Path(data["start_from"]))), None)
        return merged(training_defaults(str(name)), data) if name else data
