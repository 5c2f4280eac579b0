"""What the folder of a training run says about the data of the model in it: its frames, and which were trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rutile.core.errors import RutileError
from rutile.data.settings import SplitSettings

if TYPE_CHECKING:
    import numpy as np

    from rutile.data.store import Store


@dataclass(frozen=True)
class PastRun:
    """The data of a training run."""

    store: Store
    """All frames."""
    split: SplitSettings
    """How they were divided."""
    seed: int
    """Of the division."""
    replayed: bool
    """Whether old frames were replayed: then it is not known here which were trained on."""

    def sides(self) -> dict[str, np.ndarray]:
        """Frame numbers of "train", "valid" and "test", as the run divided them."""
        from rutile.data.split import split

        return split(self.store, self.split, self.seed)

    def trained_on(self) -> np.ndarray:
        """Frame numbers that were trained on; all, where that is not known."""
        import numpy as np

        return np.arange(len(self.store)) if self.replayed else self.sides()["train"]


def past_run(model: Path, training_data: str) -> PastRun | None:
    """The training run in whose folder a model file lies.

    Args:
        model: the file.
        training_data: hash of the data that the model was trained on.

    Returns:
        None where there is no such run, it was changed, or its data are not there any more.
    """
    import yaml

    from rutile.data.store import Store, is_store
    from rutile.tasks.train import SETTINGS_FILE
    from rutile.train.job import STORE

    try:
        said = yaml.safe_load((model.parent / SETTINGS_FILE).read_text(encoding="utf-8"))
        places = [model.parent / STORE, *(Path(path) for path in said["data"])]
        stores = [Store.open(place) for place in places if is_store(place)]
        store = next((s for s in stores if s.hash == training_data), None)
        if store is None:
            return None
        split = SplitSettings.model_validate(said["split"])
        return PastRun(store, split, int(said["seed"]), replayed=bool(said.get("replay")))
    except (RutileError, OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return None
