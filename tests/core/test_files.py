"""Folders for results: made when needed, gone again when the work fails before anything was finished."""

import pytest

from rutile.core.errors import FileError
from rutile.core.files import folder_for_results


def test_a_folder_made_for_failed_work_goes_again(tmp_path):
    with pytest.raises(ValueError, match="bad data"), folder_for_results(tmp_path / "a" / "b"):
        raise ValueError("bad data")
    assert list(tmp_path.iterdir()) == []


def test_what_was_finished_stays(tmp_path):
    out = tmp_path / "a" / "b"

    def work():
        (out / "done.txt").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), folder_for_results(out):
        work()
    assert (out / "done.txt").read_text() == "x"


def test_an_empty_folder_of_the_users_stays(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="bad"), folder_for_results(tmp_path / "mine"):
        raise ValueError("bad")
    assert (tmp_path / "mine").is_dir()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(FileError, match="cannot make the folder"), folder_for_results(tmp_path / "f"):
        pass
