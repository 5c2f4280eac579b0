"""Small files for the tests of reading."""

from pathlib import Path

from rutile.core.reporting import SilentReporter
from rutile.data.frames import Frame
from rutile.data.reading import read_frames
from rutile.data.settings import ReadSettings

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def frame_text(
    info: str = "energy=-1.5",
    rows: tuple[str, ...] = ("Ti 0.0 0.0 0.0 0.0 0.0 1.0", "O 2.0 0.0 0.0 0.0 0.0 -1.0"),
    forces: str = "forces",
    lattice: str = 'Lattice="5 0 0 0 5 0 0 0 5" pbc="T T T"',
    count: str | None = None,
) -> str:
    header = f"{lattice} Properties=species:S:1:pos:R:3:{forces}:R:3 {info}"
    return "\n".join([count or str(len(rows)), header, *rows, ""])


def write(path: Path, *texts: str) -> Path:
    path.write_text("".join(texts))
    return path


def read(path: Path, reporter: SilentReporter | None = None, **settings: object) -> list[Frame]:
    return list(read_frames([path], ReadSettings.model_validate(settings), reporter or SilentReporter()))
