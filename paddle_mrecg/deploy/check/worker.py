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
    sizes = {entry.shape[0] for entry in session.get_inputs()
             if entry.shape and isinstance(entry.shape[0], int)}
    counts = {len(v) for v in used.values() if v.ndim}
    if len(sizes) != 1 or len(counts) != 1 or counts == sizes:
        return names, lambda: session.run(names, used)
    size, count = sizes.pop(), counts.pop()

    def by_batch():  # of the size that the model was exported for; the last sample fills up
        results = []
        for start in range(0, count, size):
            rows = np.minimum(np.arange(start, start + size), count - 1)
            results.append(session.run(names, {n: v[rows] for n, v in used.items()}))
        filled = size * len(results)
        return [v[:count] if len(v) == filled else v for v in joined(results)]
    return names, by_batch


if __name__ == "__main__":
    main()
