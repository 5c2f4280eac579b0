"""Settings of Behler-Parrinello potentials. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from rutile.potentials.parts.choices import ActivationName, ScalingMode
from rutile.potentials.parts.generate import AutomaticTable, automatic_table
from rutile.potentials.parts.tables import TableSettings, read_table
from rutile.potentials.settings.network import DescriptorNetworkSettings


class BehlerSettings(DescriptorNetworkSettings):
    """Behler-Parrinello potential: one network for each element on symmetry functions."""

    TRAINING: ClassVar[dict[str, Any]] = {}
    """What suits it in the train task: settings that hold unless others are given."""

    name: Literal["behler"] = "behler"
    """Which potential."""
    table: str | TableSettings = "auto"
    """Symmetry functions: "auto", the name of a shipped table (tio2_artrith_urban_2016, cuauoh_artrith,
    cuauoh_artrith_bohr), the path of a TOML table or of an n2p2 input (.nn), or the table itself (in saved models)."""
    auto: AutomaticTable = AutomaticTable()
    """Parameters of the automatic table."""
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (20, 20)
    """Widths of the hidden layers; empty: a linear model."""
    activation: ActivationName = "silu"
    """Activation of the hidden layers. Those that saturate (tanh, sigmoid) learn slowly from isolated-atom references,
    because the networks must then bridge the whole binding energy."""
    scaling: ScalingMode = "whitened"
    """Scaling of the symmetry functions by the training set: to mean 0 and uncorrelated with variance 1 ("whitened"),
    to mean 0 and variance 1 ("standard", as in aenet), to 0..1 ("minmax"), or none."""

    def resolve_table(self, elements: tuple[int, ...]) -> TableSettings:
        """The table itself, read or generated.

        Raises:
            SettingsError: no such table, or a value in it is wrong.
            FileError: a table file cannot be read.
        """
        if isinstance(self.table, TableSettings):
            return self.table
        if self.table == "auto":
            return automatic_table(elements, self.auto)
        return read_table(self.table)
