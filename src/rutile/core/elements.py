"""Chemical elements by symbol and atomic number."""

from collections.abc import Iterable

from ase.data import atomic_numbers, chemical_symbols

from rutile.core.errors import ElementError

MAX_Z = 118


def symbol(number: int) -> str:
    """Symbol of an atomic number.

    Raises:
        ElementError: the number is not in 1..118.
    """
    if not 1 <= number <= MAX_Z:
        raise ElementError(f"unknown element: atomic number {number} (known: 1 to {MAX_Z})")
    return chemical_symbols[number]


def number(name: str) -> int:
    """Atomic number of a symbol such as "Ti".

    Raises:
        ElementError: no such element.
    """
    z = atomic_numbers.get(name, 0)
    if z == 0:
        raise ElementError(f"unknown element {name!r}: use a chemical symbol such as 'Ti'")
    return int(z)


def formula(numbers: Iterable[int]) -> str:
    """Composition such as "O4Ti2", elements in alphabetical order."""
    counts: dict[str, int] = {}
    for z in numbers:
        counts[symbol(int(z))] = counts.get(symbol(int(z)), 0) + 1
    return "".join(f"{s}{n if n > 1 else ''}" for s, n in sorted(counts.items()))
