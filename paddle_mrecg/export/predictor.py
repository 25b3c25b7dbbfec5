# SPDX-License-Identifier: Apache-2.0
"""Run a saved program with Paddle Inference: what a deployment would see."""
from typing import Dict, List

import numpy as np


class Predictor:
    """A ``.pdmodel`` + ``.pdiparams`` pair on the CPU.

    Args:
        prefix(str): path without the two suffixes.
        threads(int, optional): CPU threads. Default: 1.
    """

    def __init__(self, prefix: str, threads: int = 1):
        from paddle import inference
        config = inference.Config(prefix + ".pdmodel", prefix + ".pdiparams")
        config.disable_gpu()
        config.disable_mkldnn() if hasattr(config, "disable_mkldnn") else None
        config.set_cpu_math_library_num_threads(threads)
        config.disable_glog_info()
        self._predictor = inference.create_predictor(config)
        self.input_names = self._predictor.get_input_names()

    def __call__(self, feed: Dict[str, np.ndarray]) -> List[np.ndarray]:
        """Outputs in the program's order for ``feed`` (input name -> array)."""
        for name in self.input_names:
            self._predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(feed[name]))
        self._predictor.run()
        return [self._predictor.get_output_handle(name).copy_to_cpu() for name in self._predictor.get_output_names()]
