"""The page about a loop, with its figures."""

import pytest

from rutile.active.loop_page import page
from rutile.tasks.learn import RoundRow


@pytest.mark.slow
def test_the_page_says_what_every_round_did(tmp_path):
    met = {"explored": 40, "accurate": 20, "candidates": 15, "failed": 3, "impossible": 2, "low": 0.1, "high": 1.0}
    rows = [
        RoundRow(round=0, labelled=24, labels=24, frames=20, valid_force_rmse=0.5),
        RoundRow(round=1, **met, share=0.4, failed_share=0.08, chosen=10, labelled=9, label_failures=1, labels=34,
                 new_force_rmse=0.9, new_energy_rmse=0.02, valid_force_rmse=0.3, test_force_rmse=0.4),
    ]  # fmt: skip
    details = [
        {},
        {
            "choice": {"<tio2>-md": {"explored": 40, "accurate": 20, "candidate": 15, "chosen": 10}},
            "ended": {"<tio2>-md": {"it burst": 2, "to its end": 1}},
            "failures": {"not converged": 1},
        },
    ]
    (tmp_path / "round-01").mkdir()
    (tmp_path / "round-01" / "choice.html").touch()
    text = page([row.model_dump() for row in rows], details, "4 % candidates", tmp_path, {"seed": 1})
    assert text.count("<svg") == 4
    assert "Ended: 4 % candidates." in text
    assert "&lt;tio2&gt;-md" in text
    assert "<tio2>" not in text
    assert 'href="round-01/choice.html"' in text
    assert "decisions.csv" not in text  # no such file
    for words in ("it burst", "not converged", "0.9 eV/Å and 20 meV/atom"):
        assert words in text
    assert text.index("Round 1") < text.index("Round 0")
