"""The contract kit on the toys of the package."""

from rutile.testing.potential_contract import potential_contract
from rutile.testing.toys import make_toy

TestToy = potential_contract(make_toy)
TestToyOfThree = potential_contract(lambda: make_toy(1, (1, 8, 22)))
