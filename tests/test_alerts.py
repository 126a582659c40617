"""Each alert fires on its fault in a real Prometheus, and is resolved afterwards.

`make alerts` injects all faults and also expects that nothing else fires, which needs a quiet machine.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from alerts import table
from alerts.faults import ESSENTIAL, FAULTS
from rendering import Renderer


@pytest.mark.alerts
@pytest.mark.xdist_group("alerts")
def test_alerts_fire_on_their_fault_and_are_resolved(
    renderer: Renderer, tool: Callable[[str], str], tmp_path: Path
) -> None:
    for name in ("prometheus", "prometheus-alertmanager"):
        tool(name)
    render = renderer(tmp_path / "service", table.ANSWERS)
    faults = [fault for fault in FAULTS if fault.name in ESSENTIAL]
    assert [text for outcome in table.outcomes(render, faults) for text in outcome.missing()] == []
