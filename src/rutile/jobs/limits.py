"""What an account, or all of a group, may hold of a queue at the same time: jobs, and a share of its cores and GPUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from rutile.core.errors import SettingsError
from rutile.jobs.tables import Job, User

Holder = tuple[str, int | None]
"""An account or a group, by its number."""


@dataclass(frozen=True)
class Whole:
    """What a queue has in all; None: nobody said, and no share holds there."""

    cores: int | None = None
    gpus: int | None = None


@dataclass(frozen=True)
class Share:
    """A part of a queue that one account, or all members of a group together, may hold."""

    holder: Holder
    whose: str
    """In words."""
    percent: float

    def most(self, whole: int) -> int:
        """So many cores or GPUs of all; one at least, or nothing would ever start."""
        return max(1, int(self.percent * whole / 100 + 1e-9))


def shares_of(number: int | None, user: User, default: float | None) -> Iterator[Share]:
    """Shares that hold for the jobs of an account: its own, and that of its group.

    Args:
        number: of the account.
        user: the account.
        default: of accounts that have none of their own (%); None: no limit.
    """
    own = default if user.cores_percent is None else user.cores_percent
    if own is not None:
        yield Share(("user", number), "its owner's share", own)
    group = user.group
    if group is not None and group.cores_percent is not None:
        yield Share(("group", group.id), f"the share of group {group.name}", group.cores_percent)


@dataclass(frozen=True)
class Limits:
    """Shares of all queues."""

    default: float | None = None
    """Largest share of accounts that have none of their own (%)."""
    wholes: Mapping[str, Whole] = field(default_factory=dict)
    """What each queue has."""

    def refuse(self, owner: User, queue: str, cores: int, gpus: int) -> None:
        """Refuse a job that no share would ever let start.

        Raises:
            SettingsError: says value, share and remedy.
        """
        whole = self.wholes.get(queue, Whole())
        for share in shares_of(owner.id, owner, self.default):
            for name, what, asked, there in _counted(cores, gpus, whole):
                most = share.most(there)
                if asked > most:
                    whose = "your share" if share.holder[0] == "user" else share.whose
                    raise SettingsError(
                        f"{name} = {asked}: {whose} of queue {queue} is {most} ({share.percent:g} % of {there} "
                        f"{what}); ask for {most} at most, or an administrator for a larger share"
                    )

    def held(self, queue: str, working: Iterable[Job]) -> Holdings:
        """What accounts and groups hold of a queue now.

        Args:
            queue: its name.
            working: its jobs at work.
        """
        out = Holdings(self.default, self.wholes.get(queue, Whole()))
        for job in working:
            out.take(job)
        return out


class Holdings:
    """What accounts and groups hold of one queue."""

    def __init__(self, default: float | None, whole: Whole) -> None:
        """Nobody holds anything yet.

        Args:
            default: share of accounts that have none of their own (%).
            whole: what the queue has.
        """
        self.default, self.whole = default, whole
        self._jobs: Counter[int] = Counter()
        self._held: Counter[tuple[Holder, str]] = Counter()

    def take(self, job: Job) -> None:
        """A job is at work."""
        self._jobs[job.owner_id] += 1
        for holder in (("user", job.owner_id), ("group", job.owner.group_id)):
            self._held[holder, "cores"] += job.cores
            self._held[holder, "gpus"] += job.gpus

    def why_not(self, job: Job) -> str:
        """Why a job has to wait for others of its owner or group; "" where it has not."""
        most = job.owner.running_jobs
        if most is not None and self._jobs[job.owner_id] >= most:
            return f"waits: {most} jobs of {job.owner.name} are at work, which is the limit"
        for share in shares_of(job.owner_id, job.owner, self.default):
            for name, what, asked, there in _counted(job.cores, job.gpus, self.whole):
                held, limit = self._held[share.holder, name], share.most(there)
                part = f"{share.percent:g} % of {there} {what}"
                if asked > limit:
                    return f"asks for {asked} {what}, more than {share.whose}: {part}"
                if asked and held + asked > limit:
                    return f"waits for {share.whose}: {part}, {held} in use"
        return ""


def _counted(cores: int, gpus: int, whole: Whole) -> Iterator[tuple[str, str, int, int]]:
    """What is asked for of a queue, where the queue knows what it has: setting, words, how many, of how many."""
    if whole.cores is not None:
        yield "cores", "cores", cores, whole.cores
    if whole.gpus:
        yield "gpus", "GPUs", gpus, whole.gpus
