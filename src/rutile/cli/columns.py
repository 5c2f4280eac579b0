"""How a row of training metrics is shown: errors in meV, few digits, the epoch of how many, the time left."""

from __future__ import annotations

from collections.abc import Mapping

Row = dict[str, float | int | str]
COLUMNS = {
    "train_loss": ("loss", 1.0, 4),
    "valid_loss": ("valid loss", 1.0, 4),
    "train_energy_rmse": ("E meV/atom", 1000.0, 4),
    "valid_energy_rmse": ("valid E", 1000.0, 4),
    "train_force_rmse": ("F meV/Å", 1000.0, 4),
    "valid_force_rmse": ("valid F", 1000.0, 4),
    "train_virial_rmse": ("V meV/atom", 1000.0, 4),
    "valid_virial_rmse": ("valid V", 1000.0, 4),
    "learning_rate": ("rate", 1.0, 2),
    "structures_per_second": ("struct/s", 1.0, 3),
}
"""Metric -> heading, factor, significant digits."""


def readable(row: Mapping[str, float | int | str]) -> Row:
    """What a terminal shows of a row of metrics; a row that is not of a training (without `epochs`) as it is.

    The columns of an epoch without validation are those of one with it, empty.
    """
    if "epochs" not in row:
        return dict(row)
    out: Row = {"member": row["member"]} if "member" in row else {}
    out["epoch"] = f"{int(row['epoch']) + 1}/{row['epochs']}"
    for name, (heading, factor, digits) in COLUMNS.items():
        if name in row:
            out[heading] = float(f"{float(row[name]) * factor:.{digits}g}")
        elif name.replace("valid_", "train_") in row:
            out[heading] = ""
    if "seconds_left" in row:
        out["left"] = duration(float(row["seconds_left"]))
    return out


def duration(seconds: float) -> str:
    """A time in its two largest units, at most nine characters: 2h 05min, 3min 20s, 12s."""
    whole = round(max(seconds, 0.0))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}min {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}min"
    return f"{whole // 86400}d {whole % 86400 // 3600:02}h"
