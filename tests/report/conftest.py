# SPDX-License-Identifier: Apache-2.0
"""A finished unit and the paper's curves, for several tests."""
import pytest

from paddle_mrecg.report.units import UnitReport
from paddle_mrecg.report.units import InnerLoss

# Loss per block of MobileNetV2, digitised from the paper's figure 6.
FIGURE_6 = {
    "adaround": [1.2, 2.80, 6.46, 6.22, 1.49, 2.20, 8.9, 2.18, 1.55, 2.29, 11.0, 3.7, 5.73, 10.9,
                 5.5, 8.95, 18.6],
    "brecq": [0.95, 1.45, 6.99, 4.0, 5.15, 7.38, 5.28, 7.4, 8.15, 9.36, 7.25, 10.03, 14.55, 6.85,
              10.88, 16.66, 10.7],
    "modcap": [1.0, 1.7, 3.5, 3.5, 4.75, 5.15, 5.15, 6.9, 7.82, 7.0, 7.0, 9.65, 6.65, 6.65, 9.83,
               10.7, 10.7],
    "loss": [1.07, 1.54, 3.52, 3.54, 4.87, 5.33, 5.35, 7.03, 6.93, 6.93, 6.93, 6.52, 6.51, 6.52,
             10.24, 10.69, 10.69],
}


@pytest.fixture
def figure_6():
    return FIGURE_6


def _make_unit(**changes):
    fields = dict(index=2, name="layer2.0+layer2.1", first_module=4,
                  modules=["layer2.0", "layer2.1"], weights=5,
                  params=1234, iterations=600, seconds=41.2, loss_start=0.0412, loss_soft=0.0149,
                  loss_hard=0.0157,
                  power=1.3, inner=[InnerLoss(4, "layer2.0", 0.09, 0.05, 2.0)])
    return UnitReport(**dict(fields, **changes))


@pytest.fixture
def make_unit():
    """Builds a joined unit; keyword arguments replace fields."""
    return _make_unit
