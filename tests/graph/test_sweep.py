# SPDX-License-Identifier: Apache-2.0
"""What people export is read, written and simulated as Paddle runs it, or refused in words."""
import pytest

from paddle_mrecg.compat import paddle_version
from tests.graph.sweep.functions import FUNCTIONS
from tests.graph.sweep.networks import NETWORKS
from tests.graph.sweep.run import run

FORMATS = ["json", "pdmodel"] if paddle_version() >= "3" else ["pdmodel"]
# Constructs that once crashed, were refused, or changed their value.
QUICK = ["hardshrink", "softshrink", "one_over", "std", "strided_slice", "focus", "reverse_slice",
         "inf_mask", "inf_where", "nan_to_num", "batch_norm_bare", "arange", "grid_sample",
         "argsort", "one_hot", "expand_as", "zeros_free_batch", "adaptive_max_pool2d", "triu",
         "einsum", "matrix_nms", "nms", "deform_conv2d", "unfold", "conv3d", "detach", "setitem",
         "setitem_computed", "computed_index", "loop", "branch",
         "clip_tensor", "topk_computed", "repeat_interleave", "max_unpool2d", "quantile", "pad",
         "net_lstm", "net_gru", "net_deformable_decoder", "net_relative_position"]


# Of each kind of network, and of functions that once changed what a quantized program computes.
QUANTIZED = ["argsort", "hardshrink", "strided_slice", "one_over", "pad",
             "conv2d_transpose_depthwise", "net_lstm",
             "net_relative_position", "net_unet_transposed", "net_class_token",
             "net_deformable_decoder",
             "net_float16_weights", "net_yolo_head_batch_1", "net_vision_transformer_batch_1"]


def check(names, file_format, depth="graph"):
    results = run(names, file_format, depth)
    bad = {name: r for name, r in results.items()
           if r["status"] not in ("accepted", "refused", "not exported")}
    assert not bad
    return results


@pytest.mark.parametrize("file_format", FORMATS)
def test_constructs_that_once_failed(file_format):
    results = check(QUICK, file_format)
    assert not [n for n, r in results.items() if r["status"] == "refused"]
    assert sum(r["status"] == "accepted" for r in results.values()) >= 15


@pytest.mark.slow
@pytest.mark.parametrize("file_format", FORMATS)
def test_quantized_programs_compute_what_was_simulated(file_format):
    """A share of them: ``python -m tests.graph.sweep.run --depth job`` takes all."""
    results = check(QUANTIZED, file_format, "job")
    assert all(r["verdict"].startswith("agrees") for r in results.values() if r["status"]
               == "accepted")
    assert sum(r["status"] == "accepted" for r in results.values()) >= 7


@pytest.mark.slow
@pytest.mark.parametrize("file_format", FORMATS)
def test_everything_that_paddle_exports(file_format):
    results = check([*FUNCTIONS, *NETWORKS], file_format)
    refused = {n: r["reason"] for n, r in results.items() if r["status"] == "refused"}
    assert len(refused) <= 3 and all(len(reason.split()) > 5 for reason in refused.values())


def test_the_sweep_notices_a_crash():
    """A process that ends in the middle of an entry fails that entry and none behind it."""
    results = run(["no_such_entry", "relu"], FORMATS[0], processes=1)
    assert results["no_such_entry"]["status"] != "accepted"
    assert results["relu"]["status"] == "accepted"
