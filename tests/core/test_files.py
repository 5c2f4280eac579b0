"""Folders for results: made when needed, gone again when the work fails before anything was finished."""

import pytest

from rutile.core import files
from rutile.core.errors import FileError
from rutile.core.files import folder_for_results, remove_folder, remove_unfinished, write_atomically


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


def test_a_kill_while_a_folder_is_removed_leaves_none_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_text("x")
    monkeypatch.setattr(files.shutil, "rmtree", lambda _: None)  # killed before it
    remove_folder(tmp_path / "old")
    monkeypatch.undo()
    assert not (tmp_path / "old").exists()
    assert len(list(tmp_path.iterdir())) == 1
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_unfinished_is_removed(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    kept = [tmp_path / "model.rutile", tmp_path / ".hidden", tmp_path / "sub" / "x.unfinished"]
    for path in kept:
        path.write_text("x")

    def killed(handle):
        raise SystemExit

    monkeypatch.setattr(files.os, "fsync", killed)
    monkeypatch.setattr(files.Path, "unlink", lambda _: None)
    for folder in (tmp_path, tmp_path / "sub"):
        with pytest.raises(SystemExit):
            write_atomically(folder / "model.rutile", b"new")
    monkeypatch.undo()
    assert (tmp_path / "model.rutile").read_text() == "x"
    assert len(list(tmp_path.rglob("*"))) == len(kept) + 3
    remove_unfinished(tmp_path)
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)
