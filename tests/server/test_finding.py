"""One text finds everything, of what one may see."""

import pytest
from platform_site import ok

from rutile.jobs.tables import Dataset, Job, StoredModel, StoredStructure, Template, User


@pytest.fixture
def things(site):
    """One of everything about zirconia, ben's; the search is public."""
    with site.platform.database.writing() as session:
        mine = {"owner_id": session.query(User).filter_by(name="ben").one().id, "created": 0.0}
        job = {"key": "k", "state": "DONE", **mine}
        session.add(Job(id=1, name="Zirconia bulk", task="relax", settings={}, **job))
        session.add(Job(id=2, name="x", task="search", settings={"note": "zirconia"}, privacy="public", **job))
        session.add(Dataset(id=3, name="zirconia frames", description="melts", **mine))
        session.add(StoredModel(id=4, name="zirconia-1", sha256="0" * 64, elements=["O", "Zr"], **mine))
        session.add(Template(id=6, name="like zirconia", task="md", settings={}, **mine))
        session.add(StoredStructure(id=5, name="cubic", formula="Zirconia4", atoms=12, **mine))


def kinds(page, text, **query):
    return [(hit["kind"], hit["id"]) for hit in ok(page.get("/api/search", params={"text": text} | query))]


def test_everything_is_found_by_one_text(things, ben):
    found = [("template", 6), ("model", 4), ("dataset", 3), ("structure", 5), ("search", 2), ("job", 1)]
    assert kinds(ben, "ZIRCONIA") == found
    assert kinds(ben, "nothing like this") == []
    model = ok(ben.get("/api/search", params={"text": "zirconia-1"}))[0]
    assert (model["name"], model["about"]) == ("zirconia-1", "draft; O Zr")


def test_tasks_are_found_by_name_before_those_that_only_mention_it(ben):
    hits = ok(ben.get("/api/search", params={"text": "phonon", "most": 50}))
    assert (hits[0]["kind"], hits[0]["name"], hits[0]["id"]) == ("task", "phonons", None)


def test_what_others_keep_to_themselves_is_not_found(things, eve):
    assert kinds(eve, "zirconia") == [("search", 2)]


def test_no_more_of_a_kind_than_asked_for(site, ben):
    with site.platform.database.writing() as session:
        owner = session.query(User).filter_by(name="ben").one().id
        for _ in range(7):
            session.add(Job(name="zzz", task="md", settings={}, key="k", owner_id=owner, state="DONE", created=0.0))
    assert kinds(ben, "zzz", most=2) == [("job", 7), ("job", 6)]
    assert ben.get("/api/search").status_code == 422
    assert ben.get("/api/search", params={"text": "z", "most": 1000}).status_code == 422
