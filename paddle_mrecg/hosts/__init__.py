# SPDX-License-Identifier: Apache-2.0
"""Our strategies in unchanged scripts of PaddleOCR, PaddleDetection and PaddleClas.

``paddle-mrecg run SCRIPT ...`` reads our sections from the host's own YAML file (``sections.py``),
puts them behind the calls of PaddleSlim that the script makes (``switches.py``), tells the
schedules which epoch it is (one file per host), and runs the script (``run.py``).
"""
