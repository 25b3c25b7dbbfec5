# SPDX-License-Identifier: Apache-2.0
"""Run a saved program with Paddle Inference: what a deployment would see."""
import os
from typing import List, Sequence

import numpy as np

from ..data import as_feed
from ..graph.graph import TensorInfo


class Predictor:
    """A ``.pdmodel`` + ``.pdiparams`` pair on the CPU.

    Args:
        prefix(str): path without the two suffixes.
        inputs(list[TensorInfo], optional): the model's inputs, for readers that
            want their shapes. Default: None, names only.
        threads(int, optional): CPU threads. Default: OMP_NUM_THREADS, else all
            cores; more threads than free cores is many times slower.
    """

    def __init__(self, prefix: str, inputs: Sequence[TensorInfo] = None, threads: int = None):
        from paddle import inference
        config = inference.Config(prefix + ".pdmodel", prefix + ".pdiparams")
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(threads
                                                or int(os.environ.get("OMP_NUM_THREADS")
                                                       or os.cpu_count()))
        config.disable_glog_info()
        self._predictor = inference.create_predictor(config)
        self.input_names = self._predictor.get_input_names()
        self.output_names = self._predictor.get_output_names()
        if inputs is not None:
            self.inputs = list(inputs)
            self.input_names = [i.name for i in self.inputs]

    def __call__(self, batch) -> List[np.ndarray]:
        """Outputs in the program's order.

        Args:
            batch(array|list|dict): the inputs, in the model's order or by name.
        """
        for name, value in as_feed(batch, self.input_names).items():
            self._predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(value))
        self._predictor.run()
        return [self._predictor.get_output_handle(name).copy_to_cpu() for name in self.output_names]
