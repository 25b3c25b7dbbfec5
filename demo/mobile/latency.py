# SPDX-License-Identifier: Apache-2.0
"""Time a float and an int8 model against each other on this machine.

    python demo/mobile/latency.py --runtime inference --float_model inference_model \\
        --int8_model output/w8a8
    python demo/mobile/latency.py --runtime onnxruntime --float_model float.onnx \\
        --int8_model output/w8a8/onnx/model.onnx \\
        --shape 1,3,224,224

Needs only the runtime and numpy, so the file can be copied to a device. Runs alternate, so
that another load on the machine hits both; the figure is the median over pairs of float
time divided by int8 time.
"""
import argparse
import json
import os
import statistics
import sys
import time

import numpy as np


def inference_runner(model, feed, threads, int8=False):
    """Paddle Inference with oneDNN; ``int8`` turns its int8 kernels on."""
    from paddle import inference
    config = inference.Config(*_files(model))
    config.disable_gpu()
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(threads)
    config.enable_mkldnn()
    if int8:
        config.enable_mkldnn_int8()
    predictor = inference.create_predictor(config)
    for name in predictor.get_input_names():
        predictor.get_input_handle(name).copy_from_cpu(feed[name])
    return predictor.run


def _files(model):
    """Program and parameters of a directory or a prefix; Paddle 3 writes the program as .json."""
    if os.path.isdir(model):
        stems = sorted(name[:-len(".pdiparams")] for name in os.listdir(model)
                       if name.endswith(".pdiparams"))
        if not stems:
            raise SystemExit(f"no .pdiparams in {model}")
        model = os.path.join(model, stems[0])
    return (model + (".pdmodel" if os.path.exists(model + ".pdmodel") else ".json"),
            model + ".pdiparams")


def inference_inputs(model):
    """Input name -> shape, -1 where free."""
    from paddle import inference
    config = inference.Config(*_files(model))
    config.disable_gpu()
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    return {name: list(predictor.get_input_handle(name).shape())
            for name in predictor.get_input_names()}


def onnx_runner(model, feed, threads, int8=False):
    """onnxruntime with all its optimizations, which turn quantize /
    dequantize pairs into int8 kernels.
    """
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    used = {entry.name: feed[entry.name] for entry in session.get_inputs()}
    return lambda: session.run(None, used)


def onnx_inputs(model):
    """Input name -> shape, -1 where free."""
    import onnxruntime
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return {e.name: [d if isinstance(d, int) else -1 for d in e.shape]
            for e in session.get_inputs()}


RUNTIMES = {"inference": (inference_runner, inference_inputs),
            "onnxruntime": (onnx_runner, onnx_inputs)}


def compare(run_float, run_int8, repeats, clock=time.perf_counter, warmup=3):
    """Milliseconds of alternating runs; ``clock`` is ``time.process_time`` on a
    machine that others load, too.

    Returns:
        dict: medians ``float_ms`` and ``int8_ms``, and ``ratio``, the median
            over pairs of float / int8.
    """
    times = {"float": [], "int8": []}
    for k in range(warmup + repeats):
        for name, run in (("float", run_float), ("int8", run_int8)):
            start = clock()
            run()
            if k >= warmup:
                times[name].append(1000 * (clock() - start))
    ratios = [a / b for a, b in zip(times["float"], times["int8"])]
    return dict(float_ms=statistics.median(times["float"]),
                int8_ms=statistics.median(times["int8"]),
                ratio=statistics.median(ratios), repeats=repeats)


def measure(runtime, float_model, int8_model, shapes=(), threads=1, repeats=30,
            clock=time.perf_counter):
    """Build both models on the same random input and time them.

    Args:
        runtime(str): of ``RUNTIMES``.
        float_model(str): directory or prefix of a Paddle program, or an .onnx file.
        int8_model(str): the same, quantized.
        shapes(list[list[int]], optional): one per input, needed where the model
            leaves sizes free. Default: ().
        threads(int, optional): CPU threads. Default: 1.
        repeats(int, optional): pairs of runs. Default: 30.
        clock(callable, optional): seconds. Default: ``time.perf_counter``.
    """
    make, inputs = RUNTIMES[runtime]
    wanted = inputs(float_model)
    fixed = (dict(zip(wanted, shapes)) if shapes
             else {n: [1 if k == 0 else d for k, d in enumerate(s)] for n, s in wanted.items()})
    if any(d < 1 for shape in fixed.values() for d in shape):
        raise SystemExit(f"the model leaves sizes free ({wanted}): give --shape, once per input")
    rng = np.random.default_rng(0)
    feed = {n: rng.standard_normal(s).astype(np.float32) for n, s in fixed.items()}
    return compare(make(float_model, feed, threads), make(int8_model, feed, threads, True), repeats,
                   clock)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=sorted(RUNTIMES), required=True)
    parser.add_argument("--float_model", required=True)
    parser.add_argument("--int8_model", required=True)
    parser.add_argument("--shape", action="append", default=[],
                        help="1,3,224,224; once per input, in the model's order")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--cpu_time", action="store_true",
                        help="count the process's CPU time: for machines that others load")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    shapes = [[int(d) for d in text.split(",")] for text in args.shape]
    found = measure(args.runtime, args.float_model, args.int8_model, shapes, args.threads,
                    args.repeats,
                    time.process_time if args.cpu_time else time.perf_counter)
    print(json.dumps(found) if args.json else
          f"{args.runtime}: float {found['float_ms']:.2f} ms, int8 {found['int8_ms']:.2f} ms, "
          f"{found['ratio']:.2f} times as fast")
    return 0


if __name__ == "__main__":
    sys.exit(main())
