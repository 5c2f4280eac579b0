"""TeaNet: the contract of every potential."""

from rutile.potentials.catalogue import make
from rutile.potentials.settings import TeaNetSettings
from rutile.testing.potential_contract import potential_contract


def small(elements=(8, 22), seed=0, modes=("",), **settings):
    """A potential that is quick to evaluate."""
    sizes = {"channels": 8, "bond_channels": 4, "hidden": 8, "n_radial": 6}
    return make(TeaNetSettings(**(sizes | settings)), elements, seed, modes)


TestTeaNet = potential_contract(small)
