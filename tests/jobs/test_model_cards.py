"""What the registry notes of a model file, which it reads without PyTorch."""

from pathlib import Path

import pytest

from rutile.jobs.registry import card_of

MODELS = Path(__file__).parents[1] / "potentials" / "models"


@pytest.mark.parametrize(("stored", "end"), [("v5_behler_committee", 0.6), ("v4_behler_committee", None)])
def test_a_card_says_where_the_core_repulsion_ends(stored, end):
    card = card_of(MODELS / f"{stored}.rutile")
    assert (card["potential"], card["members"], card["core_repulsion"]) == ("behler", 2, end)
