# SPDX-License-Identifier: Apache-2.0
"""Run a ``.nb`` with Paddle Lite: ``python lite_predict.py MODEL.nb INPUTS.npz
OUTPUTS.npz [--repeat N]``.

Runs under the Python 3.7 of Paddle Lite's environment, so it stands alone: it imports nothing of
this package. The files are those of ``check.runtimes``: ``names``, and ``0``, ``1``, ... for the
arrays, samples along their first axis. One sample is run at a time, as on a device.
With ``--repeat`` the milliseconds of N further runs of the last sample are stored as
``milliseconds``.
"""
import argparse
import time

import numpy as np


def run_sample(predictor, feed):
    """The outputs of one sample, by name."""
    for name, value in feed.items():
        predictor.get_input_by_name(name).from_numpy(np.ascontiguousarray(value))
    predictor.run()
    return {name: np.array(predictor.get_output_by_name(name).numpy())
            for name in predictor.get_output_names()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("inputs")
    parser.add_argument("outputs")
    parser.add_argument("--repeat", type=int, default=0)
    args = parser.parse_args()
    from paddlelite.lite import MobileConfig, create_paddle_predictor
    config = MobileConfig()
    config.set_model_from_file(args.model)
    predictor = create_paddle_predictor(config)
    wanted = set(predictor.get_input_names())
    with np.load(args.inputs, allow_pickle=False) as stored:
        arrays = {str(n): stored[str(k)] for k, n in enumerate(stored["names"]) if str(n) in wanted}
    samples = [run_sample(predictor, {n: v[k:k + 1] for n, v in arrays.items()})
               for k in range(len(next(iter(arrays.values()))))]
    times = []
    for _ in range(args.repeat):
        start = time.perf_counter()
        predictor.run()
        times.append(1000 * (time.perf_counter() - start))
    names = list(samples[0])
    results = {str(k): np.concatenate([sample[name] for sample in samples])
               for k, name in enumerate(names)}
    np.savez(args.outputs, names=np.array(names), milliseconds=np.array(times), **results)


if __name__ == "__main__":
    main()
