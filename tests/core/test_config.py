"""YAML files and key=value words become settings; every problem becomes one clear line."""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import hypothesis
import pytest
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from rutile.core import config
from rutile.core.describe import every_entry
from rutile.core.errors import FileError, SettingsError
from rutile.core.settings import Settings, merged
from rutile.core.units import Angstrom, EVPerAngstrom
from rutile.tasks.train import TrainTaskSettings


class Adam(Settings):
    """Adam."""

    name: Literal["adam"] = "adam"
    """Which."""
    rate: float = Field(1e-3, gt=0)
    """Step."""
    amsgrad: bool = False
    """Variant."""


class Lbfgs(Settings):
    """L-BFGS."""

    name: Literal["lbfgs"] = "lbfgs"
    """Which."""
    history: int = Field(10, ge=1)
    """Steps kept."""


class Loss(Settings):
    """Loss."""

    forces: float = Field(1.0, ge=0)
    """Prefactor."""
    energy: float = 1.0
    """Prefactor."""


class Deep(Settings):
    """A group in a group."""

    loss: Loss = Loss(energy=3.0)
    """Loss."""


class Job(Settings):
    """A job."""

    data: list[Path]
    """Files."""
    cutoff: Angstrom = Field(6.0, gt=0)
    """Radius."""
    fmax: Annotated[float, Field(gt=0)] | None = None
    """Limit."""
    pressure: EVPerAngstrom | Literal["auto"] = "auto"
    """Either."""
    epochs: int = Field(10, ge=1)
    """Number."""
    loss: Loss = Loss(forces=5.0)
    """Loss."""
    optimizer: Adam | Lbfgs = Field(Adam(rate=0.01), discriminator="name")
    """Optimizer."""
    terms: list[Annotated[Adam | Lbfgs, Field(discriminator="name")]] = []
    """Many."""
    elements: list[str] = []
    """Symbols."""
    widths: tuple[int, ...] | None = (5,)
    """Widths."""
    deep: Deep = Deep(loss=Loss(energy=7.0))
    """Two floors."""
    by_element: dict[str, float] = {}
    """Numbers."""
    radii: list[Annotated[Angstrom, Field(gt=0, le=10)]] = []
    """With a unit and bounds."""
    steps: list[tuple[int, Angstrom]] = []
    """Items of several kinds."""
    weights: dict[str, Annotated[EVPerAngstrom, Field(ge=0)]] = {}
    """With a unit and bounds."""
    lattices: list[Literal["fcc", "bcc", "half_heusler"]] = []
    """Names."""


def load(*pairs: str, files: tuple[Path, ...] = ()) -> Job:
    return config.load(Job, files, ["data=[a]", *pairs])


def error(*pairs: str, files: tuple[Path, ...] = ()) -> str:
    with pytest.raises(SettingsError) as info:
        load(*pairs, files=files)
    return str(info.value)


def test_defaults_equal_the_class():
    assert load() == Job(data=[Path("a")])


def test_words_override_the_file_and_merge_into_groups(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text("data: [x.xyz]\nepochs: 3\nloss:\n  energy: 2\noptimizer:\n  name: lbfgs\n  history: 4\n")
    settings = config.load(Job, [job], ["epochs=7", "loss.forces=9"])
    assert settings.epochs == 7
    assert settings.loss == Loss(energy=2, forces=9)
    assert settings.optimizer == Lbfgs(history=4)
    assert settings.data == [Path("x.xyz")]


def test_keys_of_a_group_keep_the_rest_of_its_default():
    assert load("loss.energy=3").loss == Loss(forces=5.0, energy=3)
    assert load("deep.loss.forces=2").deep == Deep(loss=Loss(energy=7.0, forces=2))
    assert load("optimizer.amsgrad=true").optimizer == Adam(rate=0.01, amsgrad=True)


def test_a_variant_by_its_name_alone():
    assert load("optimizer=lbfgs").optimizer == Lbfgs()
    assert load("optimizer=lbfgs", "optimizer.history=3").optimizer == Lbfgs(history=3)
    assert load("optimizer=adam").optimizer == Adam(rate=0.01)
    assert load("terms=[{name: lbfgs}, {name: adam, rate: 2}]").terms == [Lbfgs(), Adam(rate=2)]


def test_another_variant_replaces_that_of_the_file(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text("optimizer:\n  name: lbfgs\n  history: 4\n")
    assert load("optimizer=adam", files=(job,)).optimizer == Adam(rate=0.01)


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("cutoff=5", "cutoff", 5.0),
        ("cutoff=1e-3", "cutoff", 1e-3),
        ("fmax=null", "fmax", None),
        ("pressure=auto", "pressure", "auto"),
        ("pressure=2.5", "pressure", 2.5),
        ("elements=[No, Y, On]", "elements", ["No", "Y", "On"]),
        ("data=a.xyz", "data", [Path("a.xyz")]),
        ("data=a.xyz, b.xyz", "data", [Path("a.xyz"), Path("b.xyz")]),
        ("widths=20", "widths", (20,)),
        ("widths=20,10", "widths", (20, 10)),
        ("widths=null", "widths", None),
        ("by_element={O: 1.5}", "by_element", {"O": 1.5}),
        ("by_element.O=1.5", "by_element", {"O": 1.5}),
    ],
)
def test_values_are_yaml(word, key, value):
    assert getattr(load(word), key) == value


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("cutof=5", "cutof: unknown setting; did you mean cutoff?"),
        ("forces=5", "forces: unknown setting; did you mean loss.forces?"),
        ("loss.force=5", "loss.force: unknown setting; did you mean loss.forces?"),
        ("optimizer.history=3", "optimizer.history: unknown setting"),
        ("cutoff=-1", "cutoff = -1: expected number > 0 (Å)"),
        ("cutoff=.nan", "cutoff = nan: expected a finite number > 0 (Å)"),
        ("cutoff=big", "cutoff = 'big': expected number > 0 (Å)"),
        ("fmax=-3", "fmax = -3: expected number > 0 or null"),
        ("pressure=many", "pressure = 'many': expected number or auto (eV/Å)"),
        ("epochs=1.5", "epochs = 1.5: expected integer >= 1"),
        ("epochs.x=1", "epochs = {x: 1}: expected integer"),
        ("loss=7", "loss = 7: expected a group of settings (forces, energy)"),
        ("optimizer=adm", "optimizer = 'adm': unknown; known are adam, lbfgs; did you mean adam?"),
        ("optimizer=LBFGS", "optimizer = 'LBFGS': unknown; known are adam, lbfgs; did you mean lbfgs?"),
        ("optimizer.rate=-1", "optimizer.rate = -1: expected number > 0"),
        ("terms=[{name: lbfgs, history: 0}]", "terms.0.history = 0: expected integer >= 1"),
        ("cutoff=[1", "cutoff = '[1': not a YAML value"),
        ("lattices=[fccc]", "lattices.0 = 'fccc': unknown; known are fcc, bcc, half_heusler; did you mean fcc?"),
        ("by_element.O=x", "by_element.O = 'x': expected number"),
        ("radii=[1, 20]", "radii.1 = 20: expected number > 0, <= 10 (Å)"),
        ("radii=[near]", "radii.0 = 'near': expected number > 0, <= 10 (Å)"),
        ("steps=[[1, 0], [2, x]]", "steps.1.1 = 'x': expected number (Å)"),
        ("weights.O=-1", "weights.O = -1: expected number >= 0 (eV/Å)"),
    ],
)
def test_each_problem_is_one_line_that_names_key_and_value(word, expected):
    text = error(word)
    assert "\n" not in text
    assert expected in text


def test_a_required_setting_says_what_it_is():
    with pytest.raises(SettingsError, match="data: missing, please give it: list of paths - Files"):
        config.load(Job)


def test_every_problem_is_listed():
    assert len(error("cutoff=-1", "epochs=0", "x=1").splitlines()) == 3


def test_a_problem_in_a_file_names_its_line(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text("epochs: 2\nloss:\n  forces: -3\n")
    assert error(files=(job,)).startswith(f"{job} line 3: loss.forces = -3: expected number >= 0")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1, 2", "line 1: not valid YAML"),
        ("a: 1\n\tb: 2", "line 2: not valid YAML"),
        ("a: &x 1\nb: *x", "line 2: not valid YAML: aliases"),
        ("[" * 5000, "not a YAML file"),
        ("a: " + "9" * 5000, "not a YAML file"),
        ("a: 1\na: 2", "line 2: a is given twice"),
        ("- 1\n- 2", "expected `key: value` lines"),
        ("just text", "expected `key: value` lines"),
        ("a: !!python/object:os.system x", "line 1: not valid YAML"),
        ("\x00\x01", "not a YAML file"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, text, expected):
    job = tmp_path / "job.yaml"
    job.write_text(text)
    with pytest.raises(FileError) as info:
        config.load(Job, [job])
    assert expected in str(info.value)
    assert str(job) in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.slow
@hypothesis.settings(derandomize=True, database=None, max_examples=300)
@hypothesis.given(st.text(st.sampled_from("adflnot:.-[]{}&*!\"'#|>%@ \n\t019e,?="), max_size=40))
def test_no_text_whatever_makes_another_kind_of_error(text):
    for read in (lambda: config.build(Job, config.parse_pair("optimizer=" + text)[1] or {}), lambda: load(text)):
        try:
            found = read()
        except SettingsError as error:
            found = error
        assert isinstance(found, Job | SettingsError)


def test_an_item_that_is_missing_is_asked_for_without_an_empty_meaning():
    class Box(Settings):
        shape: tuple[int, int]

    with pytest.raises(SettingsError) as caught:
        config.build(Box, {"shape": [1]})
    assert str(caught.value) == "shape.1: missing, please give it: integer"


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        config.load(Job, [tmp_path / "none.yaml"])
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(FileError, match="not a text file"):
        config.load(Job, [tmp_path / "b.yaml"])
    with pytest.raises(FileError, match="cannot read"):
        config.load(Job, [tmp_path])


def test_settings_are_frozen_and_described():
    with pytest.raises(ValidationError):
        load().epochs = 3  # type: ignore[misc]
    described = {e.key: e for e in every_entry(Job)}
    assert described["cutoff"].unit == "Å"
    assert described["cutoff"].kind == "number > 0"
    assert described["cutoff"].default == "6.0"
    assert described["data"].default is None
    assert described["optimizer.history"].default == "10"
    assert described["optimizer.rate"].default == "0.01"
    assert described["loss.forces"].default == "5.0"
    assert described["loss.energy"].default == "1.0"
    assert described["deep.loss.energy"].default == "7.0"
    assert all(e.meaning for e in described.values())


def test_defaults_are_merged_group_by_group_and_not_across_variants():
    defaults = {"epochs": 7, "optimizer": {"name": "adamw", "lr": 0.5, "beta": 0.8}}
    assert merged(defaults, {"optimizer": {"lr": 1.0}}) == {
        "epochs": 7,
        "optimizer": {"name": "adamw", "lr": 1.0, "beta": 0.8},
    }
    assert merged(defaults, {"optimizer": {"name": "sgd"}}) == {"epochs": 7, "optimizer": {"name": "sgd"}}


def test_a_word_that_is_short_for_a_setting():
    settings = config.load(TrainTaskSettings, [], ["potential.hidden=[3]", "architecture=behler", "data=a.xyz"])
    assert (settings.potential.name, settings.potential.hidden) == ("behler", (3,))
    with pytest.raises(SettingsError, match="'foo'"):
        config.load(TrainTaskSettings, [], ["architecture=foo", "data=a.xyz"])


class Inner(Settings):
    """A."""

    name: Literal["inner"] = "inner"
    size: int = 1
    """A."""


class Other(Settings):
    """B."""

    name: Literal["other"] = "other"
    size: int = 2
    """B."""


class WithRest(Settings):
    """Settings that it does not have belong to a group."""

    REST: ClassVar[str] = "what"
    what: Annotated[Inner | Other, Field(discriminator="name")]
    """The group."""
    many: list[Annotated[Inner | Other, Field(discriminator="name")]] = []
    """Groups by name."""


def test_settings_that_a_class_does_not_have_belong_to_its_group(tmp_path):
    assert config.load(WithRest, pairs=["what=other", "size=7"]) == WithRest(what=Other(size=7))
    assert config.load(WithRest, pairs=["size=7", "what=other"]) == WithRest(what=Other(size=7))
    (tmp_path / "x.yaml").write_text("what: other\nsize: no\n")
    with pytest.raises(SettingsError, match=r"x.yaml line 2: what.size = 'no': expected integer"):
        config.load(WithRest, files=[tmp_path / "x.yaml"])


def test_variants_named_by_a_word_inside_a_list():
    assert config.load(WithRest, pairs=["what=inner", "many=[inner, {name: other, size: 3}]"]).many == [
        Inner(),
        Other(size=3),
    ]


@pytest.mark.parametrize(
    ("word", "key"),
    [("epochs=1000000000000", "epochs"), ("optimizer={name: lbfgs, history: 10000000000}", "optimizer.history"),
     ("widths=[5, 20000000000]", "widths"), ("terms=[{name: lbfgs, history: 20000000000}]", "terms.history")],
)  # fmt: skip
def test_integers_that_no_computer_counts_to_are_refused_by_value_and_place(word, key):
    said = error(word)
    assert re.fullmatch(rf"{re.escape(key)} = \d+: expected an integer of at most 1000000000", said)


def test_seeds_may_have_63_bits_and_bounds_of_their_own_come_first():
    class Drawn(Settings):
        """Drawn."""

        seed: int = 0
        """Of random numbers."""
        address: int = Field(0, le=2**40)
        """With its own bound."""

    assert config.load(Drawn, [], [f"seed={2**63 - 1}", f"address={2**40}"]).seed == 2**63 - 1
    with pytest.raises(SettingsError, match="seed = 9223372036854775808: expected an integer of at most"):
        config.load(Drawn, [], [f"seed={2**63}"])
