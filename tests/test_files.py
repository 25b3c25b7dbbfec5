# SPDX-License-Identifier: Apache-2.0
"""Files that are compact and still say the same."""
import json

import numpy as np

from paddle_mrecg.files import write_json, write_json_table
from paddle_mrecg.grids.affine import Encoding, QuantSpec


def test_a_table_of_encodings_has_a_line_per_tensor_and_half_the_size(tmp_path):
    scale = np.random.default_rng(0).random(16).astype(np.float32)
    table = {f"conv_{k}.w ü": Encoding(QuantSpec(4, True, True, 0), scale * (k + 1),
                                       np.zeros(16)).to_dict() for k in range(3)}
    wide, compact = tmp_path / "wide.json", tmp_path / "compact.json"
    write_json(str(wide), table)
    write_json_table(str(compact), table)
    lines = compact.read_text(encoding="utf-8").splitlines()
    assert json.loads("\n".join(lines)) == json.loads(wide.read_text(encoding="utf-8")) == table
    assert len(lines) == len(table) + 2
    assert compact.stat().st_size < 0.6 * wide.stat().st_size
    assert max(len(str(v)) for entry in table.values() for v in entry["scale"]) <= 12
