"""Settings of the queue."""

from __future__ import annotations

from pydantic import Field

from rutile.core.settings import Settings


class SlurmPlace(Settings):
    """A queue of the platform whose jobs go to Slurm; job folders must be on a disk that its nodes see."""

    name: str = "slurm"
    """Name of the queue, as users see it."""
    partition: str = ""
    """Partition (`#SBATCH -p`); by default that of the cluster."""
    account: str = ""
    """Account that pays (`#SBATCH -A`)."""
    directives: list[str] = []
    """More lines for the head of the job script, such as `--qos=short`."""
    prologue: list[str] = []
    """Lines of shell before the job, such as `module load cuda`."""
    memory: bool = True
    """Ask Slurm for memory (`#SBATCH --mem`); not where it is no resource of the cluster."""
    gres: str = "gpu"
    """Name of GPUs in `#SBATCH --gres`."""
    cores: int | None = Field(default=None, ge=1)
    """Cores that there are in all; where it is not given, shares of accounts (`cores_percent`) do not hold there."""
    gpus: int | None = Field(default=None, ge=0)
    """GPUs that there are in all."""
    unix_accounts: bool = False
    """Whether the jobs of each user are submitted and run under the user's own Unix account (administrators say which,
    page Administration); users without one are refused."""
    become: list[str] = ["sudo", "-n", "-u", "{account}", "--"]
    """Words before a command that is to run as {account}; where root runs the server, [runuser, -u, "{account}", --]
    will do."""
