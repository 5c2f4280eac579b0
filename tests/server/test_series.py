"""Logs are searched block by block, curves are read again only when they have grown."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rutile.server import job_output
from rutile.server.job_output import Hit, Hits, Series, search_lines, series_of


def line_by_line(text, wanted, most):
    hits, offset = [], 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if wanted.lower() in line.lower():
            if len(hits) == most:
                return Hits(hits=hits, more=True)
            hits.append(Hit(line=number, offset=offset, text=line.rstrip("\n")))
        offset += len(line)
    return Hits(hits=hits, more=False)


@given(st.text("abC\n", max_size=200), st.sampled_from(["a", "bc", "Cab"]), st.sampled_from([1, 3, 100]),
       st.sampled_from([3, 7, 50, 4000]))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_blocks_tell_the_same_as_lines(tmp_path_factory, text, wanted, most, block):
    path = tmp_path_factory.mktemp("log") / "log.txt"
    path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_output, "BLOCK", block)
        assert search_lines(path, wanted, most) == line_by_line(text, wanted, most)


def test_a_log_that_is_not_there_has_no_lines(tmp_path):
    assert search_lines(tmp_path / "log.txt", "x", 3) == Hits(hits=[], more=False)


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
