"""Lists of data sets, models, structures and searches in the order that is asked for."""

import pytest
from platform_site import ok

from rutile.jobs.tables import Dataset, Job, StoredModel, StoredStructure, User

NAMES = ["beta", "Alpha", "gamma"]


@pytest.fixture
def things(site):
    """Three of each kind, in another order than their names have."""
    with site.platform.database.writing() as session:
        ben = session.query(User).filter_by(name="ben").one().id
        for k, name in enumerate(NAMES):
            own = {"name": name, "owner_id": ben, "created": 10.0 - k}
            session.add(Dataset(**own, licence=f"licence {k % 2}"))
            session.add(StoredModel(**own, sha256=f"{k}" * 64, stage=["draft", "validated", "draft"][k], bytes=k,
                                    energy_rmse=[0.2, None, 0.1][k], speed=[None, 5.0, 9.0][k]))  # fmt: skip
            session.add(StoredStructure(**own, formula=["He", "Ar", "Ne"][k], atoms=[3, 1, 2][k]))
            session.add(Job(**own, task="search", settings={}, key="k", version="0", state=["DONE", "FAIL", "DONE"][k]))


@pytest.mark.parametrize(("kind", "sort", "expected"), [
    *((kind, "name", ["Alpha", "beta", "gamma"]) for kind in ("datasets", "models", "structures", "searches")),
    *((kind, "-name", ["gamma", "beta", "Alpha"]) for kind in ("datasets", "models", "structures", "searches")),
    *((kind, "created", ["gamma", "Alpha", "beta"]) for kind in ("datasets", "models", "structures")),
    ("searches", "id", ["beta", "Alpha", "gamma"]),
    ("searches", "state", ["gamma", "beta", "Alpha"]),
    ("datasets", "licence", ["gamma", "beta", "Alpha"]),
    ("models", "-stage", ["Alpha", "gamma", "beta"]),
    ("models", "-bytes", ["gamma", "Alpha", "beta"]),
    ("models", "energy_rmse", ["gamma", "beta", "Alpha"]),
    ("models", "-energy_rmse", ["beta", "gamma", "Alpha"]),
    ("models", "-speed", ["gamma", "Alpha", "beta"]),
    ("models", "speed", ["Alpha", "gamma", "beta"]),
    ("structures", "atoms", ["Alpha", "gamma", "beta"]),
    ("structures", "formula", ["Alpha", "beta", "gamma"]),
])  # fmt: skip
@pytest.mark.usefixtures("things")
def test_every_list_has_the_order_that_is_asked_for(ben, kind, sort, expected):
    found = ok(ben.get(f"/api/{kind}", params={"sort": sort}))
    assert [one["name"] for one in found["items"]] == expected
    pages = [ok(ben.get(f"/api/{kind}", params={"sort": sort, "size": 1, "page": k}))["items"] for k in (1, 2, 3)]
    assert [page[0]["name"] for page in pages] == expected


@pytest.mark.parametrize("kind", ["datasets", "models", "structures", "searches"])
def test_an_order_by_something_else_is_refused(ben, kind):
    for sort in ("owner_id", "name;", "--name", ""):
        assert ben.get(f"/api/{kind}", params={"sort": sort}).status_code == 422
