"""Which of the errors of a model its list shows."""

import json

import pytest
import sqlalchemy as sql
from alembic import command

from rutile.jobs.database import migration_config, open_database
from rutile.jobs.known_errors import best_known
from rutile.jobs.tables import StoredModel


def row(set, speed=None, **values):
    return {"set": set, "job": 1, "values": values | ({"atoms_per_second": speed} if speed else {})}


def sets(metrics, trained_on=()):
    return {name: one["set"] for name, one in best_known(metrics, trained_on).items()}


def test_errors_on_other_data_say_more_than_those_on_the_training_data():
    metrics = [row("dataset:8", force_rmse=0.3), row("train", force_rmse=0.1), row("valid", force_rmse=0.2)]
    assert sets(metrics) == {"force_rmse": "dataset:8"}
    assert sets(metrics, ["dataset:8@2"]) == {"force_rmse": "valid"}
    assert sets([*metrics, row("test", force_rmse=0.2)], ["dataset:8"]) == {"force_rmse": "test"}
    assert sets([row("dataset:7, dataset:8@1", force_rmse=0.3), row("valid", force_rmse=1.0)], ["dataset:8"]) == {
        "force_rmse": "valid"
    }


def test_of_equal_ones_the_newest_counts_and_of_speeds_always():
    metrics = [row("dataset:8", energy_rmse=1.0), row("dataset:9", energy_rmse=2.0), row("test", energy_rmse=0.1)]
    assert sets(metrics) == {"energy_rmse": "dataset:9"}
    assert sets([row("dataset:8", speed=5.0), row("dataset:1", speed=4.0)], ["dataset:1"]) == {"speed": "dataset:1"}
    assert best_known([], []) == {}


@pytest.mark.databases
def test_models_that_are_there_get_versions_errors_and_speed(empty_database_url, tmp_path):
    database = open_database(empty_database_url, tmp_path)
    metrics = json.dumps([row("valid", speed=7.0, energy_rmse=0.1), row("dataset:2", energy_rmse=0.5)])
    with database.engine.begin() as connection:
        command.downgrade(migration_config(connection), "0008")
        connection.execute(sql.text("INSERT INTO users (id, name, full_name, role, created, disabled, priority) "
                                    "VALUES (1, 'ben', '', 'user', 0, false, 50)"))  # fmt: skip
        for number, name in ((1, "a"), (2, "b"), (3, "a")):
            given = {"id": number, "name": name, "metrics": metrics if number == 1 else "[]", "none": "[]", "no": "{}"}
            connection.execute(sql.text(
                "INSERT INTO models (id, name, owner_id, privacy, created, stage, description, sha256, bytes, "
                "elements, card, metrics, datasets) VALUES (:id, :name, 1, 'private', 0, 'draft', '', '0', 0, "
                ":none, :no, :metrics, :none)"), given)  # fmt: skip
        command.upgrade(migration_config(connection), "head")
    with database.reading() as session:
        columns = (StoredModel.version, StoredModel.energy_rmse, StoredModel.force_rmse, StoredModel.speed)
        found = session.execute(sql.select(*columns).order_by(StoredModel.id)).all()
    database.close()
    assert found == [(1, 0.5, None, 7.0), (1, None, None, None), (2, None, None, None)]
