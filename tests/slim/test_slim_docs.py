# SPDX-License-Identifier: Apache-2.0
"""The table of settings has a row per setting of PaddleSlim."""
from pathlib import Path

from paddle_mrecg.config.dialect.post import POST
from paddle_mrecg.config.dialect.aware import AWARE
from tests.slim_docs import switch_table
from tests.slim_matrix import recorded, table


def test_every_setting_has_a_row_and_refusals_name_the_cure():
    rows = switch_table().splitlines()[2:]
    assert ([row.split("`")[1] for row in rows] == list(POST)
            + [n for n in AWARE if n not in POST])
    assert "| `epochs` | refused: reconstruction counts optimizer steps: set num_iters |  |" in rows
    assert all(row.count("|") == 4 for row in rows)


def test_the_readme_of_the_demo_shows_the_present_tables():
    path = Path(__file__).resolve().parents[2] / "demo" / "slim" / "README.md"
    readme = path.read_text(encoding="utf-8")
    assert switch_table().strip() in readme and table(recorded()).strip() in readme
