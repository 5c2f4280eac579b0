"""All builders by name: module and function. Modules are imported when asked for."""

from collections.abc import Callable
from importlib import import_module

from rutile.build.recipe import Mechanics, Recipe
from rutile.build.settings import StepSettings

BUILDERS: dict[str, str] = {
    "molecule": "rutile.build.molecule:molecules",
    "dimer": "rutile.build.dimer:dimers",
    "bulk": "rutile.build.bulk:bulk",
    "slab": "rutile.build.slab:slabs_of",
    "cluster": "rutile.build.cluster:clusters",
    "adsorption": "rutile.build.adsorption:adsorption",
    "dissociation": "rutile.build.dissociation:dissociation",
    "boundary": "rutile.build.boundary:boundaries",
    "alloy": "rutile.build.alloy:alloys",
    "disorder": "rutile.build.disorder:disordered",
    "liquid": "rutile.build.liquid:liquids",
    "random_crystal": "rutile.build.random_crystal:random_crystals",
}


def recipe(settings: StepSettings, seed: int, mechanics: Mechanics) -> Recipe:
    """The recipe of a builder.

    Args:
        settings: of one of the builders; their `name` says of which.
        seed: of the parents that are drawn at random.
        mechanics: gives forces and melts.

    Raises:
        RutileError: the settings cannot be met: a file, an element, a package.
    """
    module, function = BUILDERS[settings.builder].split(":")
    builder: Callable[[StepSettings, int, Mechanics], Recipe] = getattr(import_module(module), function)
    return builder(settings, seed, mechanics)
