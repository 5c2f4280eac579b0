"""A reporter for a part of longer work."""

from rutile.core.reporting import PartReporter, SilentReporter


def test_a_part_has_its_name_and_warns_once(tmp_path):
    whole = SilentReporter()
    part = PartReporter(whole, tmp_path / "log.txt")
    part.part = "round 1, train"
    part.info("seven frames")
    part.warn("few frames")
    part.warn("few frames")
    part.metrics({"epoch": 1})
    assert list(part.track([1, 2], "epochs")) == [1, 2]
    assert whole.messages == []
    assert whole.warnings == ["round 1, train: few frames"]
    log = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in log] == [
        "round 1, train: seven frames",
        "round 1, train: warning: few frames",
        "round 1, train: warning: few frames",
    ]
