# SPDX-License-Identifier: Apache-2.0
"""Pools, layers and detection; ``y`` is ``[N, 8, 8, 8]``, not negative."""

import paddle
import paddle.nn.functional as F

from .constants import constant


def _grid(y):
    return paddle.tanh(paddle.stack([y[:, 0] - 1, y[:, 1] - 1], -1))


POOLS = {
    "max_pool2d": lambda y: F.max_pool2d(y, 3, 2, 1),
    "max_pool2d_ceil": lambda y: F.max_pool2d(y, 3, 2, 0, ceil_mode=True),
    "avg_pool2d": lambda y: F.avg_pool2d(y, 2),
    "avg_pool2d_include": lambda y: F.avg_pool2d(y, 3, 1, 1, exclusive=False),
    "max_pool2d_mask": lambda y: F.max_pool2d(y + constant(8, 8, 8) * 0.01, 2, return_mask=True)[
        1
    ].astype("float32"),
    "max_unpool2d": lambda y: F.max_unpool2d(*F.max_pool2d(y, 2, return_mask=True), 2),
    "adaptive_avg_pool2d": lambda y: F.adaptive_avg_pool2d(y, 3),
    "adaptive_max_pool2d": lambda y: F.adaptive_max_pool2d(y, 2),
    "adaptive_avg_pool2d_1": lambda y: F.adaptive_avg_pool2d(y, 1),
    "max_pool1d": lambda y: F.max_pool1d(y[:, 0], 2),
    "avg_pool1d": lambda y: F.avg_pool1d(y[:, 0], 2),
    "adaptive_avg_pool1d": lambda y: F.adaptive_avg_pool1d(y[:, 0], 2),
    "max_pool3d": lambda y: F.max_pool3d(y.unsqueeze(1), 2),
    "avg_pool3d": lambda y: F.avg_pool3d(y.unsqueeze(1), 2),
    "lp_pool2d": lambda y: (
        F.lp_pool2d(y + 0.1, 2.0, 2) if hasattr(F, "lp_pool2d") else F.avg_pool2d(y, 2)
    ),
    "interpolate_nearest": lambda y: F.interpolate(y, scale_factor=2, mode="nearest"),
    "interpolate_bilinear": lambda y: F.interpolate(y, [13, 11], mode="bilinear"),
    "interpolate_bilinear_aligned": lambda y: F.interpolate(
        y, [13, 11], mode="bilinear", align_corners=True
    ),
    "interpolate_bicubic": lambda y: F.interpolate(y, [13, 11], mode="bicubic"),
    "interpolate_area": lambda y: F.interpolate(y, [4, 4], mode="area"),
    "interpolate_like": lambda y: F.interpolate(
        F.max_pool2d(y, 2), paddle.shape(y)[2:], mode="nearest"
    ),
    "interpolate_linear": lambda y: F.interpolate(y[:, 0], [13], mode="linear", data_format="NCW"),
    "upsample": lambda y: F.upsample(y, scale_factor=2, mode="bilinear"),
    "grid_sample": lambda y: F.grid_sample(y, _grid(y)),
    "affine_grid": lambda y: F.affine_grid(y[:1, 0, :2, :3], [1, 8, 8, 8]),
    "local_response_norm": lambda y: F.local_response_norm(y, 3),
    "dropout_free": lambda y: F.dropout(y, 0.5, training=False),
    "dropout2d": lambda y: F.dropout2d(y, 0.5, training=False),
    "dropout_downscale": lambda y: F.dropout(y, 0.5, training=False, mode="downscale_in_infer"),
    "alpha_dropout": lambda y: F.alpha_dropout(y, 0.5, training=False),
}
LAYERS = {
    "batch_norm": lambda y: F.batch_norm(
        y, constant(8), constant(8, low=0.5), constant(8), constant(8)
    ),
    "batch_norm_bare": lambda y: F.batch_norm(y, paddle.zeros([8]), paddle.ones([8])),
    "layer_norm": lambda y: F.layer_norm(y, [8], constant(8), constant(8)),
    "layer_norm_bare": lambda y: F.layer_norm(y, [8, 8]),
    "group_norm": lambda y: (
        F.group_norm(y, 2, weight=constant(8), bias=constant(8))
        if hasattr(F, "group_norm")
        else F.layer_norm(y, [8])
    ),
    "instance_norm": lambda y: F.instance_norm(y, weight=constant(8), bias=constant(8)),
    "instance_norm_bare": lambda y: F.instance_norm(y),
    "rms_norm": lambda y: y * paddle.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6) * constant(8),
    "conv1d": lambda y: F.conv1d(y[:, :, 0], constant(4, 8, 3), padding=1),
    "conv2d": lambda y: F.conv2d(y, constant(4, 8, 3, 3)),
    "conv2d_same": lambda y: F.conv2d(y, constant(4, 8, 3, 3), padding="SAME", stride=2),
    "conv2d_computed_weight": lambda y: F.conv2d(y, paddle.tanh(constant(4, 8, 3, 3))),
    "conv2d_dilated": lambda y: F.conv2d(y, constant(4, 8, 3, 3), dilation=2),
    "conv2d_groups": lambda y: F.conv2d(y, constant(4, 4, 3, 3), groups=2),
    "conv2d_depthwise": lambda y: F.conv2d(y, constant(8, 1, 3, 3), groups=8),
    "conv2d_bias": lambda y: F.conv2d(y, constant(4, 8, 1, 1), constant(4)),
    "conv2d_transpose": lambda y: F.conv2d_transpose(y, constant(8, 4, 2, 2), stride=2),
    "conv2d_transpose_size": lambda y: F.conv2d_transpose(
        y, constant(8, 4, 3, 3), stride=2, output_size=[18, 18]
    ),
    "conv2d_transpose_depthwise": lambda y: F.conv2d_transpose(
        y, constant(8, 1, 4, 4), stride=2, padding=1, groups=8
    ),
    "conv1d_transpose": lambda y: F.conv1d_transpose(y[:, :, 0], constant(8, 4, 2), stride=2),
    "conv3d": lambda y: F.conv3d(y.unsqueeze(1), constant(2, 1, 3, 3, 3)),
    "conv3d_transpose": lambda y: F.conv3d_transpose(
        y.unsqueeze(1), constant(1, 2, 2, 2, 2), stride=2
    ),
    "deform_conv2d": lambda y: paddle.vision.ops.deform_conv2d(
        y, paddle.tile(y, [1, 3, 1, 1])[:, :18] * 0.1, constant(4, 8, 3, 3), padding=1
    ),
    "deform_conv2d_mask": lambda y: paddle.vision.ops.deform_conv2d(
        y,
        paddle.tile(y, [1, 3, 1, 1])[:, :18] * 0.1,
        constant(4, 8, 3, 3),
        padding=1,
        mask=paddle.tile(y, [1, 2, 1, 1])[:, :9],
    ),
    "softmax_with_temperature": lambda y: F.softmax(y / 0.5, 1),
    "squeeze_excite": lambda y: (
        y * F.sigmoid(F.conv2d(F.adaptive_avg_pool2d(y, 1), constant(8, 8, 1, 1)))
    ),
    "mse": lambda y: F.mse_loss(y, y * 0),
    "smooth_l1": lambda y: F.smooth_l1_loss(y, y * 0),
    "cross_entropy": lambda y: F.cross_entropy(y.transpose([0, 2, 3, 1]), paddle.argmax(y, 1)),
    "kl_div": lambda y: F.kl_div(F.log_softmax(y, 1), F.softmax(y * 0, 1)),
}
DETECTION = {
    "nms": lambda y: paddle.vision.ops.nms(_boxes(y), 0.5),
    "matrix_nms": lambda y: paddle.vision.ops.matrix_nms(
        _boxes(y).unsqueeze(0), y[:1, :2, 0, :4], 0.01, 0.0, 10, 10, background_label=-1
    )[0],
    "yolo_box": lambda y: paddle.vision.ops.yolo_box(
        paddle.tile(y, [1, 2, 1, 1])[:, :14],
        paddle.full([1, 2], 16, "int32").expand([paddle.shape(y)[0], 2]),
        [10, 13, 16, 30],
        2,
        0.01,
        8,
    )[0],
    "prior_box": lambda y: paddle.vision.ops.prior_box(y, paddle.tile(y, [1, 1, 2, 2]), [2.0])[0],
    "box_coder": lambda y: paddle.vision.ops.box_coder(
        _boxes(y), [0.1, 0.1, 0.2, 0.2], _boxes(y).unsqueeze(0), "decode_center_size"
    ),
    "roi_align": lambda y: paddle.vision.ops.roi_align(
        y[:1], _boxes(y), paddle.to_tensor([4], "int32"), 2
    ),
    "roi_pool": lambda y: paddle.vision.ops.roi_pool(
        y[:1], _boxes(y), paddle.to_tensor([4], "int32"), 2
    ),
    "psroi_pool": lambda y: paddle.vision.ops.psroi_pool(
        y[:1], _boxes(y), paddle.to_tensor([4], "int32"), 2
    ),
    "distribute_fpn": lambda y: paddle.vision.ops.distribute_fpn_proposals(
        _boxes(y) * 20, 2, 5, 4, 224, rois_num=paddle.to_tensor([4], "int32")
    )[0][0].sum(),
    "multiclass_nms": lambda y: _multiclass_nms(y),
}


def _boxes(y):
    corner = y[0, :4, 0, :2]
    return paddle.concat([corner, corner + 1 + y[0, 4:, 0, :2]], -1)


def _multiclass_nms(y):
    from paddle.vision.ops import nms

    return nms(_boxes(y), 0.3, y[0, 0, 0, :4], paddle.to_tensor([0, 1, 0, 1]), [0, 1], top_k=3)
