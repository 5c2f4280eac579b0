"""Defaults that follow from what is given."""

from rutile.core.config import build
from rutile.core.errors import SettingsError
from rutile.core.settings import Settings, merged
from rutile.core.suited import suited_defaults
from rutile.train.settings import JobSettings


class Bath(Settings):
    kind: str = "weak"
    time: float = 100.0

    @classmethod
    def suited(cls, data):
        return {"time": 10.0} | data if data.get("kind") == "strong" else data


class Run(Settings):
    size: str = "small"
    steps: int = 10
    every: int = 1
    bath: Bath = Bath()

    @classmethod
    def suited(cls, data):
        if data.get("size") == "odd":
            raise SettingsError("size: odd")
        return merged({"steps": 1000, "bath": {"time": 50.0}}, data) if data.get("size") == "large" else data


def test_only_defaults_that_follow_from_what_is_given_are_told():
    assert suited_defaults(Run, {}) == {}
    assert suited_defaults(Run, {"size": "small", "every": 2}) == {}
    assert suited_defaults(Run, {"size": "large"}) == {"steps": 1000, "bath": {"time": 50.0}}


def test_of_what_is_given_the_default_without_it_is_told():
    given = {"size": "large", "steps": 5, "bath": {"time": 1.0}}
    assert suited_defaults(Run, given) == {"steps": 1000, "bath": {"time": 50.0}}


def test_groups_say_what_suits_inside():
    assert suited_defaults(Run, {"bath": {"kind": "strong"}}) == {"bath": {"time": 10.0}}


def test_what_is_wrong_suits_nothing():
    assert suited_defaults(Run, {"size": "odd"}) == {}
    assert suited_defaults(Run, {"bath": "none", "unknown": [1]}) == {}


def test_training_takes_what_suits_its_potential():
    given = {"data": ["x.extxyz"], "potential": {"name": "anatase"}, "optimizer": {"name": "muon", "momentum": 0.5}}
    suits = suited_defaults(JobSettings, given)
    assert suits["optimizer"]["momentum"] == JobSettings.model_validate({**given, "optimizer": {}}).optimizer.momentum
    for keys in (("epochs",), ("optimizer", "learning_rate")):
        value, said = build(JobSettings, given), suits
        for key in keys:
            value, said = getattr(value, key), said[key]
        assert value == said
