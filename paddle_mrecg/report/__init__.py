# SPDX-License-Identifier: Apache-2.0
"""What the user sees: progress, tables, files and pictures."""
from .oscillation import Curve, oscillation
from .progress import Progress, get_logger, progress, unit_line
from .result import Report
from .result_dir import ResultDir
from .units import UnitReport, write_units_csv

__all__ = ["Curve", "Progress", "Report", "ResultDir", "UnitReport", "get_logger", "oscillation",
           "progress",
           "unit_line", "write_units_csv"]
