"""Logs are searched block by block, curves are read again only when they have grown."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rutile.server.routes import series
from rutile.server.routes.series import Hit, Hits, search_lines, series_of


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
        patch.setattr(series, "BLOCK", block)
        assert search_lines(path, wanted, most) == line_by_line(text, wanted, most)


def test_a_log_that_is_not_there_has_no_lines(tmp_path):
    assert search_lines(tmp_path / "log.txt", "x", 3) == Hits(hits=[], more=False)


def test_curves_that_grow_are_read_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert series_of(path, 100).rows == 0
    for count in (1, 2):
        path.write_text("".join(json.dumps({"loss": k}) + "\n" for k in range(count)))
        assert series_of(path, 100).columns == {"loss": list(range(count))}
