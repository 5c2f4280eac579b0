"""Logs are searched block by block, curves are read again only when they have grown."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rutile.jobs.series import banded
from rutile.server import job_output
from rutile.server.job_output import Hit, Hits, Search, Series, search_lines, series_of
from rutile.server.log_levels import counts, level_of


def line_by_line(text, wanted):
    """What a search finds, line by line, from the beginning of a text that is read as one piece."""
    hits, offset, number, found = [], 0, 1, 0
    for line in text.splitlines(keepends=True):
        if wanted.text.lower() in line.lower() and counts(line.rstrip("\n"), wanted.level):
            if len(hits) == wanted.most and not wanted.last:
                return Hits(hits=hits, found=found, more=True, next=offset, line=number, size=len(text))
            hit = Hit(line=number, offset=offset, text=line.rstrip("\n"), level=level_of(line.rstrip("\n")))
            hits, found = [*hits, hit], found + 1
        if line.endswith("\n"):
            offset, number = offset + len(line), number + 1
    return Hits(hits=hits[-wanted.most :], found=found, more=False, next=offset, line=number, size=len(text))


PIECES = ["error: a", "warning: abC", "ValueError", "energy error 0.2", "abC", "\n", "\n"]
SEARCHES = st.builds(
    Search, text=st.sampled_from(["", "a", "bc", "Cab"]), level=st.sampled_from(["all", "warning", "error"]),
    most=st.sampled_from([1, 3, 100]), last=st.booleans(),
).filter(lambda one: one.text or one.level != "all")  # fmt: skip
LOGS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@given(LOGS, SEARCHES, st.sampled_from([3, 7, 50, 4000]))
@settings(max_examples=200, deadline=None)
def test_blocks_tell_the_same_as_lines(tmp_path_factory, text, wanted, block):
    path = tmp_path_factory.mktemp("log") / "log.txt"
    path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_output, "BLOCK", block)
        assert search_lines(path, wanted) == line_by_line(text, wanted)


@given(LOGS, SEARCHES, st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_pieces_of_a_search_are_the_whole_of_it(tmp_path_factory, text, wanted, size):
    path = tmp_path_factory.mktemp("log") / "log.txt"
    path.write_text(text)
    whole = line_by_line(text, replace(wanted, most=1000, last=False))
    hits, answer = {}, Hits(hits=[], found=0, more=True, next=0, line=1, size=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_output, "BLOCK", 5)
        patch.setattr(job_output, "MOST_READ", size)
        while answer.more:
            answer = search_lines(path, replace(wanted, most=1000, offset=answer.next, line=answer.line))
            hits |= {hit.offset: hit for hit in answer.hits}
    assert list(hits.values()) == whole.hits
    assert (answer.next, answer.line) == (whole.next, whole.line)


def test_a_log_that_is_not_there_has_no_lines(tmp_path):
    nothing = Hits(hits=[], found=0, more=False, next=0, line=1, size=0)
    assert search_lines(tmp_path / "log.txt", Search("x")) == nothing


def test_of_curves_that_grow_only_what_is_new_is_read(tmp_path, monkeypatch):
    path, read = tmp_path / "metrics.jsonl", []
    loads = json.loads
    monkeypatch.setattr("rutile.jobs.series.json.loads", lambda line: read.append(line) or loads(line))
    assert series_of(path, 100) == Series(rows=0, index=[], columns={})
    with path.open("a") as file:
        for k in range(5):
            file.write(json.dumps({"epoch": k, "rmse": {"force": 2.0 * k}} | ({"late": k} if k > 2 else {})) + "\n")
            file.write('{"epoch": ')  # a line that is being written
            file.flush()
            found = series_of(path, 100)
            assert found.columns["epoch"] == list(range(k + 1))
            assert found.columns["rmse.force"] == [2.0 * e for e in range(k + 1)]
            file.truncate(file.tell() - len('{"epoch": '))
            file.seek(0, 2)
    assert found.columns["late"] == [None, None, None, 3, 4]
    assert len(read) == 5
    path.write_text('{"loss": 7}\n')  # begun anew
    assert series_of(path, 100) == Series(rows=1, index=[0], columns={"loss": [7]})


def test_few_points_keep_peaks_and_gaps(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"x": k, "y": 50 if k == 7777 else k % 10} | ({} if k % 2 else {"even": k}) for k in range(10_000)]
    rows[1234]["y"] = float("nan")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = series_of(path, 100)
    assert found.rows == 10_000
    assert len(found.index) < 100 * 3
    assert found.index == sorted(set(found.index))
    assert {0, 7777, 9999} <= set(found.index)
    assert found.columns["y"][found.index.index(7777)] == 50
    assert found.columns["x"] == found.index
    assert [e for e in found.columns["even"] if e is not None] == [k for k in found.index if k % 2 == 0]


@given(st.lists(st.none() | st.floats(-10, 10), min_size=11, max_size=80), st.integers(1, 10))
@settings(deadline=None)
def test_bands_hold_every_value(values, points):
    column = np.array([np.nan if v is None else v for v in values])
    middle, means, lows, highs = banded({"y": column}, len(values), points)
    assert len(middle) == len(means["y"]) == points
    assert middle == sorted(set(middle))
    edges = np.linspace(0, len(values), points + 1).astype(int)
    for k in range(points):
        there = [v for v in values[edges[k] : edges[k + 1]] if v is not None]
        told = (means["y"][k], lows["y"][k], highs["y"][k])
        if not there:
            assert told == (None, None, None)
            continue
        assert told[1:] == (min(there), max(there))
        assert told[0] == pytest.approx(sum(there) / len(there), abs=1e-9)


def test_bands_are_told_of_many_rows_only(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"y": k % 10}) + "\n" for k in range(1000)))
    found = series_of(path, 100, bands=True)
    assert (found.columns["y"], found.low["y"], found.high["y"]) == ([4.5] * 100, [0] * 100, [9] * 100)
    assert series_of(path, 1000, bands=True) == series_of(path, 1000)
    assert series_of(path, 100).low == {}
