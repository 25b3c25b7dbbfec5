# SPDX-License-Identifier: Apache-2.0
"""Pooling, interpolation, padding and pixel shuffling."""
import paddle.nn.functional as F

from . import cpu
from .conv import padding_of
from .registry import rule


@rule("pool2d", "max_pool2d_with_index")
def pool2d(call):
    """Adaptive, global or sliding; the last two are exclusive of the
    padding unless told otherwise.
    """
    x, layout = call("X"), call.attr("data_format", "NCHW")
    layout = "NHWC" if layout == "NHWC" else "NCHW"
    average = call.op.type == "pool2d" and call.attr("pooling_type", "max") == "avg"
    if call.attr("adaptive", False) or call.attr("global_pooling", False):
        size = [1, 1] if call.attr("global_pooling", False) else call.ints("ksize")
        if not average and call.op.type == "pool2d" and call.attr("adaptive", False):
            # Paddle exports max_pool2d_with_index; its pool2d cannot do it
            raise call.unsupported("adaptive maximum")
        return _adaptive(x, size, average, layout)
    kernel, stride, padding = (call.ints("ksize"), list(call.attr("strides", (1, 1))),
                               padding_of(call))
    padding, ceil = 0 if padding == "VALID" else padding, call.attr("ceil_mode", False)
    if average:
        return F.avg_pool2d(x, kernel, stride, padding, ceil, call.attr("exclusive", True), None,
                            layout)
    return F.max_pool2d(x, kernel, stride, padding, False, ceil, layout)


def _adaptive(x, size, average, layout):
    if average:
        return F.adaptive_avg_pool2d(x, size, layout)
    if layout == "NCHW":
        return F.adaptive_max_pool2d(x, size)
    return F.adaptive_max_pool2d(x.transpose([0, 3, 1, 2]), size).transpose([0, 2, 3, 1])


_POWERS_OF_TWO = {1.0, 2.0, 4.0, 8.0, 16.0}  # factors that float32 divides by without rounding


@rule("nearest_interp_v2", "bilinear_interp_v2", "bicubic_interp_v2")
def interpolate(call):
    """The size wanted comes from tensors, else from ``scale``, else
    from ``out_h`` and ``out_w``.
    """
    mode = call.op.type.split("_")[0]
    corners = call.attr("align_corners", True)
    if mode == "nearest" and corners:
        raise call.unsupported("align_corners")
    size, scale = call.ints("", "OutSize", "SizeTensor"), call("Scale")
    scale = scale.flatten().tolist() if scale is not None else call.attr("scale", [])
    scale = list(scale) if isinstance(scale, (list, tuple)) else [scale]
    if not size and not (scale and scale[0] > 0):
        size = [call.attr("out_h", -1), call.attr("out_w", -1)]
    layout = "NHWC" if call.attr("data_layout", "NCHW") == "NHWC" else "NCHW"
    scale = scale * (2 // max(len(scale), 1))
    if not size and mode == "nearest" and layout == "NCHW" and set(scale) <= _POWERS_OF_TWO:
        return cpu.repeat_pixels(call("X"), *map(int, scale))
    by = dict(size=size) if size else dict(scale_factor=scale)
    return F.interpolate(call("X"), mode=mode, align_corners=corners,
                         align_mode=call.attr("align_mode", 1),
                         data_format=layout, **by)


@rule("pad3d")
def pad3d(call):
    """``paddings`` go from the last dimension to the first: left, right,
    top, bottom, front, back.
    """
    amounts, layout = call.ints("paddings", "Paddings"), call.attr("data_format", "NCDHW")
    return _pad_as_layout(call("X"), amounts, call.attr("mode", "constant"),
                          call.attr("value", 0.0), layout)


@rule("pad2d")
def pad2d(call):
    top, bottom, left, right = call.ints("paddings", "Paddings")
    mode = call.attr("mode", "constant")
    return _pad_as_layout(call("X"), [left, right, top, bottom],
                          "replicate" if mode == "edge" else mode,
                          call.attr("pad_value", 0.0), call.attr("data_format", "NCHW"))


def _pad_as_layout(x, amounts, mode, value, layout):
    if mode != "constant" or not layout.startswith("NC"):
        return F.pad(x, amounts, mode, value, layout)
    pairs = [amounts[i:i + 2] for i in range(0, len(amounts), 2)][::-1]
    return cpu.pad(x, [0] * (2 * x.ndim - len(amounts)) + [n for pair in pairs for n in pair],
                   value)


@rule("pad")
def pad(call):
    return cpu.pad(call("X"), call.ints("paddings"), call.attr("pad_value", 0.0))


@rule("pixel_shuffle")
def pixel_shuffle(call):
    return F.pixel_shuffle(call("X"), call.attr("upscale_factor", 1),
                           call.attr("data_format", "NCHW"))


@rule("pixel_unshuffle")
def pixel_unshuffle(call):
    return F.pixel_unshuffle(call("X"), call.attr("downscale_factor", 1),
                             call.attr("data_format", "NCHW"))


@rule("channel_shuffle")
def channel_shuffle(call):
    return F.channel_shuffle(call("X"), call.attr("groups", 1), call.attr("data_format", "NCHW"))


@rule("shuffle_channel")
def shuffle_channel(call):
    return F.channel_shuffle(call("X"), call.attr("group", 1))
