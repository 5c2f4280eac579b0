"""Numbers for Prometheus: asked for by this machine, or with a token."""

from __future__ import annotations

import time
from ipaddress import ip_address

import sqlalchemy as sql
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from rutile.jobs.places import Here as ThisMachine
from rutile.jobs.tables import ACTIVE, ADMIN, STATES, Job, User
from rutile.server.people import READ, Here, Reading, known

router = APIRouter(tags=["metrics"])


@router.get("/metrics", response_class=Response, openapi_extra={"x-scope": "read"})
def prometheus(request: Request, platform: Here, session: Reading) -> Response:
    """Jobs by state and queue, cores in use and there, accounts, seconds since the start.

    Only this machine and administrators see them, these by a token that may read.
    """
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

    if platform.settings.proxy or not _near(request):
        who = known(request, platform)
        if who.user.role != ADMIN:
            raise HTTPException(403, "only administrators may do this")
        if READ not in who.scopes:
            raise HTTPException(403, "this token may not read: make one with the scope read (page Account)")
    registry = CollectorRegistry()
    jobs = Gauge("rutile_jobs", "Jobs by state and queue", ["state", "queue"], registry=registry)
    for name in platform.places:
        for state in STATES:
            jobs.labels(state, name).set(0)
    for state, queue, number in session.execute(
        sql.select(Job.state, Job.queue, sql.func.count()).group_by(Job.state, Job.queue)
    ):
        jobs.labels(state, queue).set(number)
    used = Gauge("rutile_cores_used", "Cores of jobs at work", ["queue"], registry=registry)
    there = Gauge("rutile_cores", "Cores that jobs may use", ["queue"], registry=registry)
    for name, place in platform.places.items():
        cores = sql.select(sql.func.coalesce(sql.func.sum(Job.cores), 0))
        used.labels(name).set(session.scalar(cores.where(Job.queue == name, Job.state.in_(ACTIVE))) or 0)
        if isinstance(place, ThisMachine):
            there.labels(name).set(platform.capacity.cores)
    hours = session.execute(
        sql.select(
            sql.func.coalesce(sql.func.sum(Job.core_seconds), 0.0),
            sql.func.coalesce(sql.func.sum(Job.gpu_seconds), 0.0),
        )
    ).one()
    Gauge("rutile_core_hours", "Core hours of all jobs", registry=registry).set(hours[0] / 3600)
    Gauge("rutile_gpu_hours", "GPU hours of all jobs", registry=registry).set(hours[1] / 3600)
    Gauge("rutile_users", "Accounts", registry=registry).set(session.scalar(sql.select(sql.func.count(User.id))) or 0)
    Gauge("rutile_up_seconds", "Since the server began", registry=registry).set(time.time() - platform.began)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _near(request: Request) -> bool:
    """Whether this machine asks."""
    try:
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False
