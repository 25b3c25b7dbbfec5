# SPDX-License-Identifier: Apache-2.0
"""The process that runs a model in onnxruntime: ``python -m paddle_mrecg.deploy.check.worker
MODEL.onnx INPUTS.npz OUTPUTS.npz``.
"""
import argparse
import os
import time

import numpy as np

from ..arrays import joined


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="an .onnx file")
    parser.add_argument("inputs")
    parser.add_argument("outputs")
    parser.add_argument("--repeat", type=int, default=0, help="further runs to time")
    args = parser.parse_args()
    with np.load(args.inputs, allow_pickle=False) as stored:
        feed = {str(name): stored[str(k)] for k, name in enumerate(stored["names"])}
    names, run = _onnxruntime(args.model, feed)
    outputs, times = run(), []
    for _ in range(args.repeat):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    np.savez(args.outputs, names=np.array(names), milliseconds=np.array(times),
             **{str(k): v for k, v in enumerate(outputs)})


def _onnxruntime(path, feed):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count())
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    used = {entry.name: feed[entry.name] for entry in session.get_inputs()}
    count = len(next(iter(used.values())))
    if count == 1 or not any(entry.shape[:1] == [1] for entry in session.get_inputs()):
        return names, lambda: session.run(names, used)

    def one_by_one():  # a model of batch size 1, as detectors with their suppression inside
        results = [session.run(names, {n: v[k:k + 1] for n, v in used.items()})
                   for k in range(count)]
        return joined(results)
    return names, one_by_one


if __name__ == "__main__":
    main()
