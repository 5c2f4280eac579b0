"""Base class of all settings: frozen, strict about names, documented by the docstring under each field.

A field declares type, default, bound, unit and meaning once; help text, JSON schema and forms follow from it:

    class RelaxSettings(Settings):
        fmax: Annotated[float, EVPerAngstrom] = Field(0.01, gt=0)
        '''Largest force component at which a structure counts as relaxed.'''
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """A frozen group of settings; unknown names are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    ALIASES: ClassVar[dict[str, str]] = {}
    """Other words for settings in files and on the command line: word -> dotted key."""

    REST: ClassVar[str] = ""
    """Group to which settings belong that the class does not have, in files and on the command line."""

    @classmethod
    def suited(cls, data: Any) -> Any:
        """What is given with what suits it added; a class whose defaults depend on what is given says how."""
        return data

    @model_validator(mode="before")
    @classmethod
    def _suit(cls, data: Any) -> Any:
        return cls.suited(data)


class Result(BaseModel):
    """What a task returns: plain numbers, strings and paths that survive a round trip through JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="strings")


def merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, and the defaults for the rest, group by group; a group of another `name` is taken as given."""
    out = dict(defaults) | dict(given)
    for key in defaults.keys() & given.keys():
        old, new = defaults[key], given[key]
        if (
            isinstance(old, Mapping)
            and isinstance(new, Mapping)
            and new.get("name", old.get("name")) == old.get("name")
        ):
            out[key] = merged(old, new)
    return out
