"""A task is one settings model, one function and one result model, in one file; every face follows from it.

The function imports torch inside its body, so that listing tasks and printing their help is instant.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings


@dataclass(frozen=True)
class Task:
    """One capability."""

    name: str
    """Its name on the command line."""
    settings: type[Settings]
    """What can be set."""
    result: type[Result]
    """What comes out."""
    run: Callable[[Any, Reporter], Result]
    """The function: (settings, reporter) -> result."""
    positional: str | None = None
    """Name of the setting that a bare word on the command line fills (`rutile inspect FILE`)."""
    examples: tuple[str, ...] = ()
    """Command lines shown in the help."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Large groups of settings that the help of another task describes: last word of the key -> name of that task."""

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        return (self.run.__doc__ or "").strip().splitlines()[0]

    def key(self, settings: Settings) -> str:
        """Same question, same key: for caches and provenance."""
        text = json.dumps([self.name, settings.model_dump(mode="json")], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
