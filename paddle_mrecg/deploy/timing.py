# SPDX-License-Identifier: Apache-2.0
"""Time a float and an int8 model against each other on this machine.

    python timing.py --runtime inference --float_model inference_model --int8_model output/w8a8
    python timing.py --runtime onnxruntime --float_model float.onnx --int8_model model.onnx \\
        --shape 1,3,224,224
    python timing.py --runtime lite --float_model float.nb --int8_model model.nb --inputs one.npz

Stands alone, under Python 3.7 too: it needs the runtime and numpy only, so the file can be copied
to a device. Runs alternate, so that another load on the machine hits both; the ratio is the median
over pairs of float time divided by int8 time.
"""
import argparse
import json
import os
import sys
import time

import numpy as np

WARM_UP, LEAST = 3, 3  # pairs that are not counted; pairs that count however long they take
SPREAD = (10, 50, 90)  # percentiles


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
        predictor.get_input_handle(name).copy_from_cpu(_given(feed, name))
    return predictor.run


def inference_inputs(model):
    """Input name -> shape, -1 where free."""
    from paddle import inference
    config = inference.Config(*_files(model))
    config.disable_gpu()
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    return {name: list(predictor.get_input_handle(name).shape())
            for name in predictor.get_input_names()}


def _files(model):
    """Program and parameters of a directory or a prefix; Paddle 3 writes the program as .json."""
    if os.path.isdir(model):
        stems = sorted(name[:-len(".pdiparams")] for name in os.listdir(model)
                       if name.endswith(".pdiparams"))
        if not stems:
            raise SystemExit("no .pdiparams in '{}': give the folder of an exported "
                             "model".format(model))
        model = os.path.join(model, stems[0])
    program = model + (".pdmodel" if os.path.exists(model + ".pdmodel") else ".json")
    return _existing(program), _existing(model + ".pdiparams")


def _existing(path):
    if os.path.isdir(path):
        raise SystemExit("'{}' is a folder: give the model file of the runtime in it".format(path))
    if not os.path.isfile(path):
        raise SystemExit("'{}' does not exist: give a folder or the prefix of an exported model, "
                         "or the model file of the runtime".format(path))
    return path


def _given(feed, name):
    if name not in feed:
        raise SystemExit("the model's input '{}' is not among the arrays of --inputs ({}): name "
                         "them as the inputs".format(name, ", ".join(sorted(feed))))
    return feed[name]


def onnx_runner(model, feed, threads, int8=False):
    """onnxruntime with all its optimizations, which turn quantize and dequantize pairs into int8
    kernels.
    """
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(_existing(model), options,
                                           providers=["CPUExecutionProvider"])
    used = {entry.name: _repeated(_given(feed, entry.name), entry.shape)
            for entry in session.get_inputs()}
    return lambda: session.run(None, used)


def _repeated(sample, shape):
    """One sample as often as a model of a fixed batch wants it."""
    fixed = len(shape) > 0 and isinstance(shape[0], int) and np.shape(sample)[:1] == (1,)
    return np.repeat(sample, shape[0], axis=0) if fixed else sample


def onnx_inputs(model):
    """Input name -> shape, -1 where free."""
    import onnxruntime
    session = onnxruntime.InferenceSession(_existing(model), providers=["CPUExecutionProvider"])
    return {e.name: [d if isinstance(d, int) else -1 for d in e.shape]
            for e in session.get_inputs()}


def lite_runner(model, feed, threads, int8=False):
    """Paddle Lite's x86 predictor; its precision is that of the .nb file, and one thread is all
    that its Python interface offers.
    """
    from paddlelite.lite import MobileConfig, create_paddle_predictor
    config = MobileConfig()
    config.set_model_from_file(_existing(model))
    predictor = create_paddle_predictor(config)
    for name in predictor.get_input_names():
        predictor.get_input_by_name(name).from_numpy(_given(feed, name))
    return predictor.run


def lite_inputs(model):
    """A .nb file does not tell the shapes of its inputs."""
    raise SystemExit("a .nb file does not tell the shape of its inputs: give --inputs")


RUNNERS = {"inference": (inference_runner, inference_inputs),
           "onnxruntime": (onnx_runner, onnx_inputs), "lite": (lite_runner, lite_inputs)}


def compare(runs, repeats, clock=time.perf_counter, warmup=WARM_UP, seconds=None):
    """Time functions in turn.

    Args:
        runs(dict): name -> one run of that model: ``float``, ``int8`` and, if wanted, ``plain``,
            the int8 model without the multiplications that equalization inserted.
        repeats(int): pairs of runs that count.
        clock(callable, optional): seconds; ``time.process_time`` on a machine that others load,
            too. Default: ``time.perf_counter``.
        warmup(int, optional): pairs in front that do not count. Default: 3.
        seconds(float, optional): stop after these, but not before three pairs count; no second pair
            is made to warm up where the first took longer. Default: None.

    Returns:
        dict: for each name ``median``, ``low`` and ``high`` (tenth and ninetieth percentile) in
            milliseconds; ``ratio``, ``ratio_low``, ``ratio_high`` of float / int8 over the pairs;
            ``added``, the median of int8 / plain - 1, where there is the latter; ``repeats`` as
            made.
    """
    times, begin = {name: [] for name in runs}, time.monotonic()
    for k in range(warmup + repeats):
        late = seconds and time.monotonic() - begin > seconds
        if late and (0 < k < warmup or k >= warmup + LEAST):
            continue
        for name, run in runs.items():
            start = clock()
            run()
            if k >= warmup:
                times[name].append(1000 * (clock() - start))
    ratios = np.array(times["float"]) / np.maximum(times["int8"], 1e-9)
    low, middle, high = np.percentile(ratios, SPREAD).tolist()
    found = {name: dict(zip(("low", "median", "high"), np.percentile(values, SPREAD).tolist()))
             for name, values in times.items()}
    if "plain" in times:
        added = np.array(times["int8"]) / np.maximum(times["plain"], 1e-9) - 1.0
        found["added"] = float(np.median(added))
    return dict(found, ratio=middle, ratio_low=low, ratio_high=high, repeats=len(ratios))


def random_feed(inputs, shapes=()):
    """Normally distributed inputs, always the same.

    Args:
        inputs(dict): name -> shape, -1 where free.
        shapes(list[list[int]], optional): one per input, where the model leaves sizes free.
            Default: (), a batch of one.
    """
    fixed = (dict(zip(inputs, shapes)) if shapes
             else {n: [1 if k == 0 else d for k, d in enumerate(s)] for n, s in inputs.items()})
    if any(d < 1 for shape in fixed.values() for d in shape):
        raise SystemExit("the model leaves sizes free ({}): give --shape, once per "
                         "input".format(inputs))
    rng = np.random.RandomState(0)
    return {n: rng.standard_normal(s).astype(np.float32) for n, s in fixed.items()}


def read_feed(path):
    """Arrays of a .npz: by their names, or ``names`` and ``0``, ``1``, ... for any names."""
    with np.load(_existing(path), allow_pickle=False) as stored:
        if "names" in stored.files:
            return {str(n): stored[str(k)] for k, n in enumerate(stored["names"])}
        return {n: stored[n] for n in stored.files}


def main(argv=None):
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=sorted(RUNNERS), required=True)
    parser.add_argument("--float_model", required=True,
                        help="directory or prefix of a Paddle program, an .onnx or a .nb file")
    parser.add_argument("--int8_model", required=True, help="the same, quantized")
    parser.add_argument("--plain_model", help="the int8 model without inserted multiplications, to "
                        "see what they cost")
    parser.add_argument("--shape", action="append", default=[],
                        help="1,3,224,224; once per input, in the model's order")
    parser.add_argument("--inputs", help=".npz of one sample; default: random numbers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30, help="pairs of runs")
    parser.add_argument("--seconds", type=float, help="fewer pairs where they take longer")
    parser.add_argument("--cpu_time", action="store_true",
                        help="count the process's CPU time: for machines that others load")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    make, inputs = RUNNERS[args.runtime]
    shapes = [[int(d) for d in text.split(",")] for text in args.shape]
    feed = read_feed(args.inputs) if args.inputs else random_feed(inputs(args.float_model), shapes)
    try:
        found = _compared(args, make, feed)
    except Exception as error:  # whatever a runtime raises
        if args.inputs:
            raise
        said = " ".join(str(error).split())[:300]
        raise SystemExit("{} does not run the models on random floats ({}): give a sample with "
                         "--inputs".format(args.runtime, said)) from error
    found["threads"] = args.threads
    print(json.dumps(found) if args.json else
          "{}: float {:.2f} ms, int8 {:.2f} ms, {:.2f} times as fast".format(
              args.runtime, found["float"]["median"], found["int8"]["median"], found["ratio"]))
    return 0


def _compared(args, make, feed):
    runs = {"float": make(args.float_model, feed, args.threads),
            "int8": make(args.int8_model, feed, args.threads, True)}
    if args.plain_model:
        runs["plain"] = make(args.plain_model, feed, args.threads, True)
    return compare(runs, args.repeats, time.process_time if args.cpu_time else time.perf_counter,
                   seconds=args.seconds)


if __name__ == "__main__":
    sys.exit(main())
