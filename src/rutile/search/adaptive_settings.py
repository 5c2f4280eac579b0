"""Settings of the adaptive genetic algorithm. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from rutile.core.settings import Settings
from rutile.core.units import EVPerAngstrom, EVPerAtom


class AskSettings(Settings):
    """Which structures are labelled."""

    per_version: int = Field(default=12, ge=1)
    """Labels of structures that one version of the potential found, at most; and as many again that cannot be learned
    (`max_force`)."""
    after: int = Field(default=48, ge=1)
    """Relaxations with a version before its structures are labelled: so that they are good ones."""
    disputed: float = Field(default=0.4, ge=0, le=1)
    """Part of the labels for the structures about which the committee disagrees most; the others are the lowest ones
    (dimensionless)."""
    low: float = Field(default=0.6, gt=0, le=1)
    """Part of the pool, from its lowest on, that disputed ones are taken from (dimensionless)."""
    apart: float = Field(default=0.08, gt=0)
    """A structure whose fingerprint is nearer than this to that of a labelled one gets no label (dimensionless), ..."""
    gain: EVPerAtom = Field(default=0.02, ge=0)
    """... unless the potential says that it is lower than that label by more than this: the same, relaxed better."""
    closest: float = Field(default=0.7, ge=0, lt=1)
    """A relaxation that ends with atoms nearer than this part of the sum of their covalent radii has failed: no label
    is paid (dimensionless)."""
    max_spread: EVPerAtom = Field(default=2.0, gt=0)
    """Nor for one about whose energy the members differ more: its relaxation went where the potential says nothing."""
    max_force: EVPerAngstrom = Field(default=60.0, gt=0)
    """A label with a larger force is kept, but not learned."""
    wait: int = Field(default=96, ge=1)
    """After so many relaxations in which nothing new was found to label, the labels there are are learned, however
    few; if there are none, the search ends."""


class TeachSettings(Settings):
    """When a version of the potential is replaced."""

    after: int = Field(default=8, ge=1)
    """New labels with which a training begins."""
    tolerance: float = Field(default=0.5, ge=0)
    """By what part errors on old structures may grow; a version that forgets more is kept out, and one is trained anew
    on all structures (dimensionless)."""
    good_energy: EVPerAtom = Field(default=0.03, ge=0)
    """Errors below this are no reason to keep a version out: few structures are learned by heart first."""
    good_force: EVPerAngstrom = Field(default=0.5, ge=0)
    """The same of force components."""


class AdaptiveStop(Settings):
    """When the search ends; the first that comes true."""

    versions: int = Field(default=8, ge=1)
    """When the lowest label has not changed for so many versions (few end before the lowest is met), ..."""
    correlation: float = Field(default=0.9, ge=-1, le=1)
    """... and the newest one ranks the low labelled structures as their labels do: Spearman's rank correlation
    (dimensionless)."""
    window: EVPerAtom = Field(default=0.3, gt=0)
    """Low ones are so near the lowest, by their label or by the potential."""
    labels: int = Field(default=300, ge=1)
    """Labels at most, those that failed with them."""
    relaxations: int = Field(default=10000, ge=1)
    """Relaxations on the potential at most, repeated ones with them."""


class AdaptiveSettings(Settings):
    """How search, labels and training go together."""

    begin: int = Field(default=20, ge=0)
    """Random structures that are labelled first. Those whose labels cannot be learned (`ask.max_force`) are replaced by
    others, up to three times as many in all."""
    ask: AskSettings = AskSettings()
    """Which structures are labelled."""
    teach: TeachSettings = TeachSettings()
    """When a version of the potential is replaced."""
    stop: AdaptiveStop = AdaptiveStop()
    """When the search ends."""
    rest: int = Field(default=400, ge=1)
    """After so many relaxations with one version, the search waits for the next one."""
    batch: int = Field(default=16, ge=1)
    """Structures that a worker relaxes together."""
    final: int = Field(default=5, ge=0)
    """So many of the different lowest labelled structures are relaxed further with the labeler at the end."""
    tries: int = Field(default=3, ge=1)
    """Workers that may be lost over one piece of work before it counts as failed."""
