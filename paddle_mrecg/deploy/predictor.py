# SPDX-License-Identifier: Apache-2.0
"""Run a saved program with Paddle Inference: what a deployment would see."""
import os
from typing import List, Sequence, Tuple, Union

import numpy as np

from ..data import as_feed
from ..errors import ModelError
from ..graph.graph import Graph, TensorInfo
from .arrays import joined, one_by_one


def last_line(error: Exception) -> str:
    """Of Paddle's messages, which begin with a stack, the line that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


class Predictor:
    """A ``.pdmodel`` + ``.pdiparams`` pair on the CPU.

    Args:
        prefix(str|tuple): path without the two suffixes, or the two files.
        inputs(list[TensorInfo], optional): the model's inputs, for readers that
            want their shapes. Default: None, names only.
        threads(int, optional): CPU threads. Default: OMP_NUM_THREADS, else all
            cores; more threads than free cores is many times slower.
        optimize(bool, optional): with Paddle's graph optimization. Default: True.
        lean(bool, optional): tensors inside share memory, which takes a small part of what a
            program holds otherwise: all of them, even between batches. Default: False.
    """

    def __init__(self, prefix: Union[str, Tuple[str, str]], inputs: Sequence[TensorInfo] = None,
                 threads: int = None, optimize: bool = True, lean: bool = False):
        from paddle import inference
        program, params = ((prefix + ".pdmodel", prefix + ".pdiparams")
                           if isinstance(prefix, str) else prefix)
        config = inference.Config(program, params)
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(threads
                                                or int(os.environ.get("OMP_NUM_THREADS")
                                                       or os.cpu_count()))
        config.disable_glog_info()
        if lean:
            config.enable_memory_optim()
        if not optimize:
            config.switch_ir_optim(False)
            if hasattr(config, "disable_mkldnn"):
                config.disable_mkldnn()
        self._one_by_one = False
        try:
            self._predictor = inference.create_predictor(config)
        except Exception as error:  # Paddle raises many kinds
            raise ModelError(f"Paddle Inference cannot load '{program}' "
                             f"({last_line(error)}): export the model again") from error
        self.input_names = self._predictor.get_input_names()
        self.output_names = self._predictor.get_output_names()
        if inputs is not None:
            self.inputs = list(inputs)
            self.input_names = [i.name for i in self.inputs]

    def __call__(self, batch) -> List[np.ndarray]:
        """Outputs in the program's order. A program that takes one sample at a time gets them one
        by one; its outputs are joined along their first axis.

        Args:
            batch(array|list|dict): the inputs, in the model's order or by name.
        """
        feed = {n: np.asarray(v) for n, v in as_feed(batch, self.input_names).items()}
        if self._one_by_one:
            return joined([self._run(sample) for sample in one_by_one(feed)] or [self._run(feed)])
        try:
            return self._run(feed)
        except Exception as error:
            parts = self._tried_one_by_one(feed)
            if not parts:
                raise ModelError(f"Paddle Inference cannot run the program ({last_line(error)}): "
                                 "check the model and the size of its inputs") from error
            return joined(parts)

    def _run(self, feed) -> List[np.ndarray]:
        for name, value in feed.items():
            self._predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(value))
        self._predictor.run()
        return [self._predictor.get_output_handle(name).copy_to_cpu() for name in self.output_names]

    def _tried_one_by_one(self, feed) -> List[List[np.ndarray]]:
        """Nothing where one sample does not run either."""
        try:
            parts = [self._run(sample) for sample in one_by_one(feed)]
        except Exception:  # the batch's own error tells more
            return []
        self._one_by_one = bool(parts)
        return parts


def scored_program(prefix: str, graph: Graph) -> Predictor:
    """A written program for an evaluator, in this process and without much of its memory.

    Args:
        prefix(str): path without the two suffixes.
        graph(Graph): what it was written from; its inputs are those of the program.
    """
    return Predictor(prefix, [graph.tensors[n] for n in graph.inputs], lean=True)
