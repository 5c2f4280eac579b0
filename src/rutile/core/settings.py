"""Base class of all settings: frozen, strict about names, documented by the docstring under each field.

A field declares type, default, bound, unit and meaning once; help text, JSON schema and forms follow from it:

    class RelaxSettings(Settings):
        fmax: Annotated[float, EVPerAngstrom] = Field(0.01, gt=0)
        '''Largest force component at which a structure counts as relaxed.'''
"""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen group of settings; unknown names are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )


class Result(BaseModel):
    """What a task returns: plain numbers, strings and paths that survive a round trip through JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="strings")
