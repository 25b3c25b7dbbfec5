# SPDX-License-Identifier: Apache-2.0
"""The table of what each step of a job brings."""
import numpy as np

from demo import compare_steps, results
from paddle_mrecg.config.io import load_config


def cell(folder, seed, solved, name="solved", **setting):
    setting = dict(dict(model="MobileNetV1", metric="top-1", bits="W4A8", equalize="none",
                        preset="fast"), **setting)
    results.save_results(
        results.cell_path(folder, setting, seed), "python x.py",
        [results.run_record(setting, seed, {"float": 79.38, name: solved, "seconds": 60.4},
                            samples=325, calibration=64, trained="3 of 14 units")])


def test_table_has_a_row_per_model_and_bits_with_the_spread_over_seeds(tmp_path):
    cell(tmp_path, 0, 78.0)
    cell(tmp_path, 1, 79.0)
    cell(tmp_path, 0, 77.0, "reconstructed", bits="W8A8", equalize="auto")
    _, _, first, second, *_ = compare_steps.table(tmp_path).splitlines()
    assert first == ("| MobileNetV1, top-1 | 64, 325 | W8A8 | 79.38 | – | – | 77.00 "
                     "| 77.00 | 60 | 3 of 14 units |")
    assert "| W4A8, equalize none | 79.38 | – | – | 78.50 ± 0.71 | – | 60 |" in second


def test_every_cell_is_a_valid_job():
    for bits in compare_steps.BITS:
        config = load_config(compare_steps.job("MobileNetV1", bits, "auto", "fast", 3))
        assert config.quant_post.weight_bits == int(bits[1])
        assert config.global_.seed == 3 and config.mrecg.granularity == "block"


def test_scores_are_of_all_samples_and_their_seconds_are_kept():
    class Work:
        batch_size = 4

        @staticmethod
        def evaluation(count):
            return {"x": np.arange(count)}, lambda outputs: float(outputs[0].sum())

    evaluator = compare_steps.Evaluator(Work, 10)
    assert evaluator(lambda batch: [batch["x"]]) == {"score": 45.0}
    assert evaluator.seconds >= 0.0
