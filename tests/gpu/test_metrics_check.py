"""The device's path of the metrics, with torch's CPU in a GPU's place."""

from tests.gpu import metrics_check


def test_another_device_gives_the_same_metrics():
    lines = metrics_check.check("cpu:0", timed=False)
    assert [line.check for line in lines if not line.held] == []
    assert len(lines) == 8
