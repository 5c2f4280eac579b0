"""Binding energies of guests in frameworks.

    E_b = [E(host + n guests) - E(host) - n E(guest)] / n,

negative where they are bound. Hosts and guests are relaxed alone, and all starts of all hosts with guests in one batch;
cells stay as given. The lowest minimum with whole guests counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from rutile.build.inserting import with_guests
from rutile.build.recipe import Refused
from rutile.core.elements import formula
from rutile.core.seeds import stream
from rutile.simulate.adsorb_settings import BindSettings
from rutile.simulate.adsorbates import condition
from rutile.simulate.minima import Minimum, Relaxer
from rutile.structures.structures import Structures


@dataclass(frozen=True)
class Start:
    """One structure to begin with."""

    host: int
    """Number of the host."""
    guest: int
    """Number of the guest."""
    count: int
    """How many of them."""
    atoms: Atoms
    """Host, and guests behind it."""


@dataclass(frozen=True)
class Bound:
    """One host with some guests."""

    host: int
    """Number of the host."""
    guest: int
    """Number of the guest."""
    count: int
    """How many of them."""
    ends: tuple[Minimum, ...]
    """Of all starts, the lowest with whole guests first; those that failed last."""
    conditions: tuple[str, ...]
    """Of the guests in each: "" if whole, dissociated, bonded to another."""


@dataclass(frozen=True)
class Binding:
    """Everything by one potential."""

    hosts: tuple[Minimum, ...]
    """Relaxed, alone."""
    guests: tuple[Minimum, ...]
    """Relaxed, alone."""
    found: tuple[Bound, ...]
    """For each host, guest and number."""

    def energy(self, bound: Bound, end: float, hosts: Sequence[float], guests: Sequence[float]) -> float:
        """E_b of a host with guests (eV per guest), from its total energy and those of hosts and guests alone (eV)."""
        return (end - hosts[bound.host]) / bound.count - guests[bound.guest]


def starts(hosts: Sequence[Atoms], guests: Mapping[str, Atoms], settings: BindSettings) -> list[Start]:
    """Structures to begin with.

    Args:
        hosts: frameworks.
        guests: molecules by name.
        settings: how many, and where.

    Raises:
        Refused: there is no room.
    """
    out = []
    for h, host in enumerate(hosts):
        for g, (name, guest) in enumerate(guests.items()):
            for count in settings.counts:
                for n in range(settings.starts):
                    rng = stream(settings.seed, "guests", h, name, count, n)
                    at_open = settings.open_sites and n < (settings.starts + 1) // 2
                    try:
                        made = with_guests(host, guest, count, settings.apart, rng, at_open)
                    except Refused as why:
                        raise Refused(f"{count} {name} in {formula(host.numbers)} (host {h}): {why}") from None
                    out.append(Start(h, g, count, made))
    return out


def bind(
    hosts: Sequence[Atoms],
    guests: Mapping[str, Atoms],
    begin: Sequence[Start],
    settings: BindSettings,
    relaxed: Relaxer,
) -> Binding:
    """Minima by one potential.

    Args:
        hosts: frameworks.
        guests: molecules by name.
        begin: structures of `starts`.
        settings: whether hosts are held.
        relaxed: relaxes the structures of a stage.
    """
    molecules = list(guests.values())
    held = [np.full(len(h), settings.held) for h in hosts]
    free = [np.zeros(len(m), dtype=bool) for m in molecules]
    alone = relaxed("alone", [Structures.from_ase(a) for a in [*hosts, *molecules]], held + free)
    fixed = [np.concatenate([held[s.host], np.zeros(len(s.atoms) - len(held[s.host]), dtype=bool)]) for s in begin]
    ends = relaxed("with guests", [Structures.from_ase(s.atoms) for s in begin], fixed)
    groups: dict[tuple[int, int, int], list[tuple[Minimum, str]]] = {}
    for start, end in zip(begin, ends, strict=True):
        whole = [alone[len(hosts) + start.guest].atoms] * start.count
        groups.setdefault((start.host, start.guest, start.count), []).append((end, condition(end.atoms, whole)))
    found = []
    for (h, g, n), mine in groups.items():
        mine.sort(key=lambda pair: (bool(pair[0].failure), bool(pair[1]), pair[0].energy))
        found.append(Bound(h, g, n, tuple(end for end, _ in mine), tuple(text for _, text in mine)))
    return Binding(tuple(alone[: len(hosts)]), tuple(alone[len(hosts) :]), tuple(found))
