"""The report page: escaping, numbers, figures that fit any page, and sections from an assessment."""

import dataclasses
import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from rutile.core.errors import ElementError
from rutile.data.frames import Frame
from rutile.potentials.calibration import BarScale, Calibration
from rutile.testing.toys import make_toy
from rutile.train import drawing, figures, report, sections
from rutile.train.assess import MOST_VALUES, Assessment, Pairs, compare

RNG = np.random.default_rng(0)
X = RNG.normal(size=300)
Y = X + 0.1 * RNG.normal(size=300)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-1.5, "−1.5"),
        (123456.78, "123456.8"),
        (1e-7, "1.000e-07"),
        (float("nan"), "nan"),
        (0.123456, "0.1235"),
    ],
)
def test_numbers_are_short(value, text):
    assert report.format_number(value) == text


def test_values_are_escaped():
    assert report.format_value("<script>") == "&lt;script&gt;"
    assert report.format_value(["<a>", 1, None, True]) == "&lt;a&gt;, 1, –, yes"
    assert report.format_value([{"a": 1}]) == "(1 entries)"
    hostile = "</title><script>alert(1)</script>"
    page = report.render(
        hostile,
        hostile,
        [report.Card(hostile, hostile, hostile)],
        [
            report.Section(
                hostile,
                [
                    report.Text(hostile),
                    report.Table([hostile], [[hostile]], hostile),
                    report.Facts({hostile: {hostile: hostile}}, folded=hostile),
                    report.Figures([(figures.parity(hostile, hostile, X, Y), hostile)]),
                ],
            )
        ],
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 10


MANY = [figures.Curve(f"run{k}", [0, 1], [k + 1.0, 2]) for k in range(9)]
FIGURES = {
    "parity": lambda: figures.parity("Force", "eV/Å", X, Y),
    "parity of nothing": lambda: figures.parity("Force", "eV/Å", X[:0], Y[:0]),
    "parity of one point": lambda: figures.parity("Force", "eV/Å", X[:1], X[:1]),
    "histogram": lambda: figures.histogram("Force", "eV/Å", Y - X),
    "histogram of exact": lambda: figures.histogram("Force", "eV/Å", np.zeros(5)),
    "spread": lambda: figures.error_against_std("Force", "eV/Å", np.abs(X), Y - X),
    "spread of nothing": lambda: figures.error_against_std("Force", "eV/Å", np.zeros(3), np.zeros(3)),
    "curve": lambda: figures.learning_curve("Loss", "", [figures.Curve("a", [0, 1, 2], [1.0, float("nan"), 0.5])]),
    "many curves": lambda: figures.learning_curve("Loss", "", MANY),
    "boxes": lambda: figures.residual_boxes("Force", "eV/Å", {"O": Y - X, "Ti": X[:1]}),
    "order": lambda: figures.energy_order(["a", "b"], np.array([0, 0.1]), np.array([0.1, np.nan]), "eV"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_well_formed_and_take_the_colours_of_the_page(name):
    before = dict(mpl.rcParams)
    svg = FIGURES[name]()
    assert dict(mpl.rcParams) == before
    ET.fromstring(svg)
    assert svg == FIGURES[name](), "the same numbers give the same text"
    assert "currentColor" in svg
    assert drawing.INK not in svg
    assert "DejaVu" not in svg
    assert not re.search(r"<svg[^>]*height=", svg)


def test_parity_of_absolute_energies_has_plain_numbers_on_both_axes():
    svg = figures.parity("Energy", "eV/atom", -654 + 0.0005 * X, -654 + 0.0005 * Y)
    ticks = re.findall(r">(−[0-9.e+−-]+)</text>", svg)
    assert len(ticks) >= 4
    assert all(654.3 > -float(tick.replace("−", "-")) > 653.7 for tick in ticks), "no offset beside an axis"


def ticks_below(svg):
    """Texts and places of the tick labels below the axes."""
    found = re.findall(r'text-anchor: middle[^"]*" x="([\d.]+)" y="([\d.]+)"[^>]*>([\d.e+−-]+)</text>', svg)
    bottom = max(float(y) for _, y, _ in found)
    return sorted((float(x), text) for x, y, text in found if float(y) == bottom)


@pytest.mark.parametrize("last", [1, 2, 3, 4, 7, 10, 23])
def test_rounds_are_whole_numbers_below_their_curve(last):
    curve = figures.Curve("", range(last + 1), [1.0] * (last + 1))
    svg = figures.learning_curve("Force error", "eV/Å", [curve], "round")
    ticks = ticks_below(svg)
    assert 2 <= len(ticks) <= 8
    assert all(text.isdigit() for _, text in ticks)


@pytest.mark.slow
@pytest.mark.parametrize("span", [1.2, 3.0, 9.0, 25.0, 60.0, 400.0])
@pytest.mark.parametrize("first", [0.0012, 0.03])
def test_labels_of_trials_do_not_overlap_however_narrow_their_range(first, span):
    x = np.geomspace(first, first * span, 7).tolist()
    y = np.geomspace(0.02, 0.02 * span, 7).tolist()
    ticks = ticks_below(figures.trials("rate", "rate", "loss", {"complete": (x, y)}, best=False, log=True))
    assert len(ticks) >= 2
    half = [0.5 * 6.4 * len(text) for _, text in ticks]  # digits of 10 points
    for (a, _), (b, _), this, other in zip(ticks, ticks[1:], half, half[1:], strict=False):
        assert b - a > this + other


def test_error_text_says_the_errors():
    assert figures.error_text(np.array([3.0, -4.0]), "eV") == "n = 2\nMAE 3.5 eV\nRMSE 3.536 eV\nmax 4 eV"


def test_pairs_stay_small():
    pairs = Pairs()
    block = np.arange(200_000.0)[None].repeat(2, 0)
    for k in range(40):
        pairs.add(block + k)
    assert pairs.values.shape[1] <= MOST_VALUES
    assert pairs.values.shape[1] >= MOST_VALUES // 4
    firsts = pairs.values[0, ::200_000]
    assert np.ptp(np.diff(firsts)) == 0, "evenly thinned"


def frame(k: int, n: int = 4) -> Frame:
    rng = np.random.default_rng(k)
    numbers = np.array([22, 8, 8, 8][:n])
    forces, stress = rng.normal(size=(n, 3)), np.eye(3) * 0.01
    positions = rng.uniform(0, 5, (n, 3))
    return Frame(numbers, positions, 6 * np.eye(3), np.ones(3, bool), -5.0 * n, forces, stress, "ab"[k % 2], "", 1.0,
                 f"file.extxyz#{k}")  # fmt: skip


@pytest.mark.parametrize("atoms_per_batch", [1, 9, 1000])
def test_batches_do_not_change_the_assessment(atoms_per_batch):
    toys, frames = [make_toy(0), make_toy(1)], [frame(k) for k in range(7)]
    whole, parts = Assessment(worst=3, force_limit=2.5), Assessment(worst=3, force_limit=2.5)
    for compared in compare(toys, frames, atoms_per_batch=10_000):
        whole.add(compared)
    for compared in compare(toys, iter(frames), atoms_per_batch=atoms_per_batch):
        parts.add(compared)
    assert parts.n_frames == 7
    assert [e.frame for e in parts.worst] == [e.frame for e in whole.worst]
    assert len(whole.worst) == 3
    for a, b in zip(parts.errors.rows(), whole.errors.rows(), strict=True):
        assert a == pytest.approx(b)
    for name in ("energy", "force", "stress"):
        np.testing.assert_allclose(parts.pairs[name].values, whole.pairs[name].values)


@pytest.mark.slow
def test_sections_of_an_assessment():
    assessment = Assessment(force_limit=2.5)
    for compared in compare([make_toy()], [frame(k) for k in range(5)], atoms_per_batch=100):
        assessment.add(compared)
    rows = assessment.errors.rows()
    page = report.render("t", "s", sections.cards(rows), [
        sections.parity_section(assessment), sections.errors_section(rows), sections.worst_section(assessment.worst),
        sections.curves_section([{"epoch": "0", "valid_force_rmse": "0.5", "train_loss": ""}]),
        sections.settings_section({"Training": {"epochs": 7}}),
    ])  # fmt: skip
    force = next(r for r in rows if (r["quantity"], r["subset"]) == ("force", "all"))
    assert report.format_number(force["rmse"]) in page
    energy = next(r for r in rows if (r["quantity"], r["subset"]) == ("energy", "all"))
    assert report.format_number(1000 * energy["mae"]) in page
    for text in ("Ti", "group", "max |F| &lt; 2.5", "file.extxyz#0", "epochs"):
        assert text in page
    assert page.count("<figure>") == 7


def test_unknown_element_names_the_frame():
    copper = dataclasses.replace(frame(0), numbers=np.array([22, 8, 8, 29]))
    with pytest.raises(ElementError, match=r"file.extxyz#0.*not trained on Cu"):
        list(compare([make_toy()], [copper], atoms_per_batch=10))


@pytest.mark.slow
def test_more_runs_than_colours_are_all_drawn():
    svg = FIGURES["many curves"]()
    assert all(f"run{k}" in svg for k in range(9))
    assert svg.count("stroke-dasharray") > 0


def test_marked_values_stand_out():
    table = report.Table(["a", "b"], [[1, 2], [3, 4]], marked=frozenset({(1, 0)})).html()
    assert table.count("<strong>") == 1
    assert "<strong>3</strong>" in table


@pytest.mark.slow
def test_residuals_are_told_apart_by_element_group_and_method():
    model = make_toy(seed=1)
    frames = [frame(k) for k in range(7)]
    assessment = Assessment(worst=20)
    for compared in compare([model], frames, atoms_per_batch=7):
        assessment.add(compared)
    by_element = assessment.residuals_by("element")["force"]
    by_group = assessment.residuals_by("group")
    rows = {(r["quantity"], r["subset"], r["name"]): r for r in assessment.errors.rows()}
    for name, errors in by_element.items():
        assert np.sqrt((errors**2).mean()) == pytest.approx(rows["force", "element", name]["rmse"])
        assert errors.size == rows["force", "element", name]["count"]
    assert set(by_group["energy"]) == {"a", "b"}
    for quantity, found in by_group.items():
        for name, errors in found.items():
            assert np.abs(errors).max() == pytest.approx(rows[quantity, "group", name]["max"])
    section = sections.residuals_section(assessment).html()
    assert section.count("<figure>") == 3  # forces by element and by group, energies by group
    assert sections.residuals_section(Assessment()).blocks[0].text == "These frames have no labels."


@pytest.mark.slow
def test_schedule_and_timings():
    history = [{"epoch": k, "learning_rate": 0.1**k, "prefactor_energy": 1.0 + k, "prefactor_force": 3.0,
                "train_seconds": 2.0, "valid_seconds": 1.0, "atoms_per_second": 50.0 + k}
               for k in range(3)]  # fmt: skip
    schedule = sections.schedule_section(history).html()
    assert "Learning rate" in schedule
    assert "forces" in schedule
    assert "virial" not in schedule
    timings = sections.timings_section(history, {"training": 9.0}).html()
    assert "<dd>51</dd>" in timings
    assert "training (s)" in timings
    assert sections.schedule_section([]).blocks[0].text == "No epoch has ended yet."
    assert "<figure>" not in sections.timings_section([{"epoch": 0}], {}).html()


@pytest.mark.slow
def test_a_committee_has_a_section_about_its_error_bars():
    single, committee = Assessment(), Assessment()
    for members, assessment in (([make_toy(0)], single), ([make_toy(0), make_toy(1)], committee)):
        for compared in compare(members, [frame(k) for k in range(5)], atoms_per_batch=100):
            assessment.add(compared)
    assert sections.calibration_section(single) is None
    assert "rutile calibrate" in sections.calibration_section(committee).html()
    bars = BarScale(scale=2.0, quantile=3.25, floor=0.01, frames=7)
    known = sections.calibration_section(committee, Calibration(coverage=0.9, members=2, energy=bars)).html()
    assert known.count("<figure>") == 3
    assert "<dd>3.25</dd>" in known
    assert "forces" not in known


def test_marks_of_an_axis_are_whole_numbers_without_an_offset():
    with mpl.rc_context(drawing.STYLE):
        figure, axes = drawing.square("energies")
        axes.plot([0, 1], [8.20001, 8.20004])
        text = drawing.svg(figure)
    marks = [float(found) for found in re.findall(r">(8\.2\d+)<", text)]
    assert len(set(marks)) >= 3
    assert "+8.2" not in text
