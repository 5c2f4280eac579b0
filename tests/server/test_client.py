"""What `rutile.Client` does besides jobs: links, space, notices, models."""

import os
import signal
import urllib.error
import urllib.request

import pytest
from test_serve import served, token_of

import rutile
from rutile.core.client import Refused
from rutile.core.errors import FileError


@pytest.fixture
def client(tmp_path):
    process, address, link = served(tmp_path / "home", tmp_path / "log")
    yield rutile.Client(address, token_of(address, link))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_links_space_and_notices_through_the_client(client, tmp_path):
    number = client.submit("doctor", {})
    assert client.wait(number, 120)["state"] == "DONE"
    link = client.share("job", number, days=1)
    (row,) = client.shares()
    assert (row["kind"], row["number"]) == ("job", number)
    secret = link.split("/")[-1]
    shown = f"{client.address}/api/shared/{secret}"
    with urllib.request.urlopen(shown, timeout=30) as answer:
        assert answer.status == 200
    client.end_share(row["id"])
    assert client.shares() == []
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(shown, timeout=30)

    (notice,) = client.notices()
    assert (notice["kind"], notice["job_id"], notice["read"]) == ("done", number, False)
    client.mark_read([notice["id"]])
    assert client.notices()[0]["read"]
    client.mark_read()

    (piece,) = client.storage("job")
    would = client.free([piece["reference"]])
    assert not would["done"]
    assert would["bytes"] == piece["bytes"] > 0
    assert client.job(number)["id"] == number
    assert client.free([piece["reference"]], sure=True)["done"]
    with pytest.raises(Refused) as caught:
        client.job(number)
    assert caught.value.status == 404

    kept = client.keep_template("look", "doctor", {}, privacy="group")
    began = client.submit("doctor", {}, template_id=kept)
    assert client.wait(began, 120)["state"] == "DONE"
    (template,) = client.templates(task="doctor")
    assert (template["id"], template["name"], template["jobs"], template["privacy"]) == (kept, "look", 1, "group")
    assert client.templates(task="relax") == []
    client.delete_template(kept)
    assert client.templates() == []

    assert client.models() == []
    with pytest.raises(Refused):
        client.download_model(1, tmp_path / "model.rutile")
    assert not (tmp_path / "model.rutile").exists()
    with pytest.raises(Refused):
        client.notebook(number)


@pytest.mark.slow
def test_mistakes_of_a_script_are_one_line(client, tmp_path):
    with pytest.raises(FileError, match=r"gone\.cif: no such file"):
        client.upload(str(tmp_path / "gone.cif"))
    (tmp_path / "a b.extxyz").write_text("1\n\nCu 0 0 0\n")
    assert client.upload(str(tmp_path / "a b.extxyz")).startswith("upload:")  # a path as text, too
    with pytest.raises(Refused, match="this token is unknown, has ended or was taken back"):
        rutile.Client(client.address, "rtl_wrong").models()
    with pytest.raises(FileError, match="'nonsense': expected http"):
        rutile.Client("nonsense", "rtl_wrong")
