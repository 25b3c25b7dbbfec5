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
    from paddle_mrecg.errors import MrecgError
    try:
        write(args)
    except (MrecgError, OSError, ValueError) as error:  # the last: a shape, or what is not an array
        parser.error(str(error))
    return 0


def write(args):
    """See ``main``."""
    from paddle_mrecg.deploy.simulate import simulate
    from paddle_mrecg.graph.load import load_graph
    shape = [int(size) for size in args.shape.split(",")]
    if not Path(args.output).is_dir():
        raise ValueError(f"--output {args.output} is not a folder: make it first")
    sample = (np.load(args.inputs, allow_pickle=False) if args.inputs
              else np.random.default_rng(0).standard_normal(shape))
    if sample.size != np.prod(shape):
        raise ValueError(f"--inputs {args.inputs} holds {sample.size} values of shape "
                         f"{list(sample.shape)}, --shape asks for {shape}")
    sample = np.ascontiguousarray(sample, np.float32).reshape(shape)
    graph = load_graph(args.model_dir, allow_quantized=True)
    ends = graph.inputs + graph.outputs[:1]
    types = {name: graph.tensors[name].dtype for name in ends}
    if len(graph.inputs) != 1 or set(types.values()) != {"float32"}:
        raise ValueError("classify feeds one input and compares the first output, both float32; "
                         "the model has " + ", ".join(f"{n}: {t}" for n, t in types.items()))
    wanted = list(graph.tensors[graph.inputs[0]].shape)
    if len(wanted) != len(shape) or any(0 < w != s for w, s in zip(wanted, shape)):
        raise ValueError(f"--shape is {shape}, the model takes {wanted} (-1: any size)")
    expected = simulate(graph, {graph.inputs[0]: sample}, graph.outputs[:1])[graph.outputs[0]]
    for name, values in (("input.bin", sample), ("expected.bin", expected)):
        path = Path(args.output) / name
        path.write_bytes(np.ascontiguousarray(values, np.float32).tobytes())
        print(f"{path}: {list(values.shape)}")


if __name__ == "__main__":
    sys.exit(main())
