# SPDX-License-Identifier: Apache-2.0
"""A process of a data-parallel training; test_data_parallel.py launches several."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import paddle_mrecg  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)
import numpy as np  # noqa: E402
import paddle  # noqa: E402

from tests import training_nets as small  # noqa: E402


def main(folder):
    paddle.distributed.init_parallel_env()
    rank = paddle.distributed.get_rank()
    config = {"QuantAware": {"target": "simulation", "activation_bits": 4,
                             "activation_quanter": sys.argv[2], "rounding": sys.argv[3]},
              "BinRegularization": {"schedule": "S1"}}
    model, penalty = small.prepared(config, calibration=False)
    parallel = paddle.DataParallel(model)
    sgd = paddle.optimizer.SGD(0.01, parameters=penalty.parameter_groups())
    penalty.on_epoch(0, 1)
    for step in range(2):  # other data, and another reach, in every process
        x = small.images(4, seed=10 * step + rank) * (1.0 + rank)
        (parallel(x).square().mean() + penalty()).backward()
        sgd.step()
        sgd.clear_grad()
    state = {k.replace(".", "/"): v.numpy() for k, v in model.state_dict().items()
             if "_mean" not in k and "_variance" not in k}
    np.savez(f"{folder}/{rank}.npz", **state)


if __name__ == "__main__":
    main(sys.argv[1])
