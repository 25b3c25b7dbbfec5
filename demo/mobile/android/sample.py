# SPDX-License-Identifier: Apache-2.0
"""Write one input and the output that a device must give for it, as float32 for ``classify``.

    python demo/mobile/android/sample.py output/w4a8 --output output/w4a8/lite --shape 1,3,224,224

The output is that of the simulation, which ``paddle-mrecg check`` compares runtimes with.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import numpy as np  # noqa: E402


def main(argv=None):
    """Write ``input.bin`` and ``expected.bin``; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir", help="result of a job")
    parser.add_argument("--output", required=True, help="existing folder for the two files")
    parser.add_argument("--shape", required=True, help="of the only input: 1,3,224,224")
    parser.add_argument("--inputs", help=".npy of one sample; default: random numbers")
    args = parser.parse_args(argv)
    from paddle_mrecg.deploy.simulate import simulate
    from paddle_mrecg.graph.load import load_graph
    graph = load_graph(args.model_dir, allow_quantized=True)
    shape = [int(size) for size in args.shape.split(",")]
    sample = (np.load(args.inputs, allow_pickle=False) if args.inputs
              else np.random.default_rng(0).standard_normal(shape))
    sample = np.ascontiguousarray(sample, np.float32).reshape(shape)
    expected = simulate(graph, {graph.inputs[0]: sample}, graph.outputs[:1])[graph.outputs[0]]
    for name, values in (("input.bin", sample), ("expected.bin", expected)):
        path = Path(args.output) / name
        path.write_bytes(np.ascontiguousarray(values, np.float32).tobytes())
        print(f"{path}: {list(values.shape)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
