# SPDX-License-Identifier: Apache-2.0
"""Small networks of the kinds that people quantize; the input is ``[N, 3, 32, 32]``."""
import paddle
import paddle.nn as nn
import paddle.nn.functional as F

from . import attention
from .blocks import Of, conv


def _lenet():
    return nn.Sequential(
        nn.Conv2D(3, 6, 5), nn.ReLU(), nn.MaxPool2D(2), nn.Conv2D(6, 8, 5), nn.ReLU(),
        nn.MaxPool2D(2), nn.Flatten(), nn.Linear(200, 32), nn.ReLU(), nn.Linear(32, 10))


def _residual():
    def run(m, x):
        x = m.stem(x)
        x = F.relu(x + m.b(m.a(x)))
        return m.head(F.relu(m.short(x) + m.d(m.c(x))).mean([2, 3]))
    return Of(run, stem=conv(3, 8), a=conv(8, 8), b=conv(8, 8, act=None), c=conv(8, 16, 3, 2),
              d=conv(16, 16, act=None), short=conv(8, 16, 1, 2, act=None), head=nn.Linear(16, 10))


def _inverted_residual():
    def run(m, x):
        x = m.stem(x)
        x = x + m.c(m.b(m.a(x)))
        return m.head(m.last(x).mean([2, 3]))
    return Of(run, stem=conv(3, 8, 3, 2), a=conv(8, 24, 1, act=nn.Hardswish),
              b=conv(24, 24, 5, 1, 24, nn.Hardswish), c=conv(24, 8, 1, act=None),
              last=conv(8, 16, 1, act=nn.Hardswish), head=nn.Linear(16, 10))


def _squeeze_excite():
    def run(m, x):
        x = m.stem(x)
        gate = F.hardsigmoid(m.up(F.relu(m.down(F.adaptive_avg_pool2d(x, 1)))), slope=0.2)
        return m.head(x * gate)
    return Of(run, stem=conv(3, 16), down=nn.Conv2D(16, 4, 1), up=nn.Conv2D(4, 16, 1),
              head=nn.Conv2D(16, 4, 1))


def _shuffle():
    def run(m, x):
        a, b = paddle.split(m.stem(x), 2, 1)
        return m.head(F.channel_shuffle(paddle.concat([a, m.b(m.a(b))], 1), 2).mean([2, 3]))
    return Of(run, stem=conv(3, 16, 3, 2), a=conv(8, 8, 1), b=conv(8, 8, 3, 1, 8),
              head=nn.Linear(16, 10))


def _inception():
    def run(m, x):
        x = m.stem(x)
        return m.head(paddle.concat([m.a(x), m.c(m.b(x)), m.d(F.avg_pool2d(x, 3, 1, 1))], 1))
    return Of(run, stem=conv(3, 8, 3, 2), a=conv(8, 4, 1), b=conv(8, 4, 1), c=conv(4, 8),
              d=conv(8, 4, 1), head=nn.Conv2D(16, 4, 1))


def _dense():
    def run(m, x):
        x = m.stem(x)
        for layer in (m.a, m.b, m.c):
            x = paddle.concat([x, layer(x)], 1)
        return m.head(x.mean([2, 3]))
    return Of(run, stem=conv(3, 8, 3, 2), a=conv(8, 4), b=conv(12, 4), c=conv(16, 4),
              head=nn.Linear(20, 10))


def _unet(up):
    def run(m, x):
        a = m.a(x)
        b = m.b(F.max_pool2d(a, 2))
        return m.head(m.c(paddle.concat([a, m.up(b)], 1)))
    return Of(run, a=conv(3, 8), b=conv(8, 16), up=up, c=conv(16, 8), head=nn.Conv2D(8, 2, 1))


def _pyramid():
    def run(m, x):
        a = m.a(x)
        b = m.b(a)
        c = m.c(b)
        p = m.lc(c)
        q = m.lb(b) + F.interpolate(p, scale_factor=2, mode="nearest")
        r = m.la(a) + F.interpolate(q, paddle.shape(a)[2:], mode="bilinear")
        return m.head(p), m.head(q), m.head(r)
    return Of(run, a=conv(3, 8, 3, 2), b=conv(8, 8, 3, 2), c=conv(8, 16, 3, 2),
              la=nn.Conv2D(8, 8, 1), lb=nn.Conv2D(8, 8, 1), lc=nn.Conv2D(16, 8, 1),
              head=nn.Conv2D(8, 6, 3, padding=1))


def _yolo_head(batch):
    def run(m, x):
        y = m.head(m.b(m.a(x)))
        y = y.reshape([batch, 2, 7, 8, 8]).transpose([0, 1, 3, 4, 2])
        return F.sigmoid(y[..., :2]), paddle.exp(y[..., 2:4] * 0.1), F.sigmoid(y[..., 4:])
    return Of(run, a=conv(3, 8, 3, 2), b=conv(8, 8, 3, 2), head=nn.Conv2D(8, 14, 1))


def _yolo_anchors():
    def run(m, x):
        y = m.head(m.b(m.a(x))).flatten(2).transpose([0, 2, 1])
        ys, xs = paddle.meshgrid(paddle.arange(8), paddle.arange(8))
        points = paddle.stack([xs, ys], -1).reshape([-1, 2]).astype("float32") + 0.5
        boxes = paddle.concat([points - y[..., :2], points + y[..., 2:4]], -1)
        return boxes * 4, F.sigmoid(y[..., 4:])
    return Of(run, a=conv(3, 8, 3, 2), b=conv(8, 8, 3, 2), head=nn.Conv2D(8, 7, 1))


def _distribution_focal():
    def run(m, x):
        y = m.head(m.a(x)).flatten(2).transpose([0, 2, 1]).reshape([-1, 256, 4, 8])
        return paddle.matmul(F.softmax(y, -1), paddle.arange(8, dtype="float32"))
    return Of(run, a=conv(3, 8, 3, 2, act=nn.Hardswish), head=nn.Conv2D(8, 32, 1))


def _yolo_nms():
    def run(m, x):
        y = m.head(m.b(m.a(x))).flatten(2).transpose([0, 2, 1])
        corner = F.relu(y[..., :2])
        boxes = paddle.concat([corner, corner + 1 + F.relu(y[..., 2:4])], -1)
        scores = F.sigmoid(y[..., 4:]).transpose([0, 2, 1])
        return paddle.vision.ops.matrix_nms(boxes, scores, 0.01, 0.0, 20, 10)[0]
    return Of(run, a=conv(3, 8, 3, 2), b=conv(8, 8, 3, 2), head=nn.Conv2D(8, 7, 1))


def _focus():
    def run(m, x):
        parts = [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return m.head(m.a(paddle.concat(parts, 1)))
    return Of(run, a=conv(12, 8, act=nn.Silu), head=nn.Conv2D(8, 4, 1))


def _spatial_pyramid():
    def run(m, x):
        x = m.a(x)
        pools = [F.max_pool2d(x, k, 1, k // 2) for k in (5, 9, 13)]
        return m.head(m.b(paddle.concat([x] + pools, 1)))
    return Of(run, a=conv(3, 8, 3, 2, act=nn.Silu), b=conv(32, 8, 1, act=nn.Silu),
              head=nn.Conv2D(8, 4, 1))


def _recurrent(cell, **options):
    def run(m, x):
        x = m.b(m.a(x)).mean(2).transpose([0, 2, 1])
        return m.head(m.cell(x)[0])
    width = 16 * (2 if options.get("direction") else 1)
    return Of(run, a=conv(3, 8, 3, 2), b=conv(8, 8), cell=cell(8, 16, **options),
              head=nn.Linear(width, 10))


def _deformable_decoder():
    def run(m, x):
        feature = m.b(m.a(x))
        points = F.sigmoid(m.points(m.queries)).reshape([1, 6, 1, 2]) * 2 - 1
        grid = points.expand([paddle.shape(x)[0], -1, -1, -1])
        sampled = F.grid_sample(feature, grid).squeeze(-1).transpose([0, 2, 1])
        scores = m.score(sampled)
        _, order = paddle.topk(scores.max(-1), 3, 1)
        index = order.unsqueeze(-1).tile([1, 1, 4])
        return paddle.take_along_axis(F.sigmoid(m.box(sampled)), index, 1), scores
    net = Of(run, a=conv(3, 8, 3, 2), b=conv(8, 8, 3, 2), points=nn.Linear(8, 2),
             score=nn.Linear(8, 5), box=nn.Linear(8, 4))
    net.queries = net.create_parameter([6, 8])
    return net


def _deformable_convolution():
    def run(m, x):
        x = m.a(x)
        return m.head(F.relu(m.deformed(x, m.offset(x))))
    return Of(run, a=conv(3, 8, 3, 2), offset=nn.Conv2D(8, 18, 3, padding=1),
              deformed=paddle.vision.ops.DeformConv2D(8, 8, 3, padding=1), head=nn.Conv2D(8, 4, 1))


def _segmentation():
    def run(m, x):
        y = m.head(m.b(m.a(x)))
        return paddle.argmax(F.interpolate(y, paddle.shape(x)[2:], mode="bilinear"), 1)
    return Of(run, a=conv(3, 8, 3, 2), b=conv(8, 8, 3, 2), head=nn.Conv2D(8, 5, 1))


def _text_detector():
    def run(m, x):
        y = m.b(m.a(x))
        return F.sigmoid(m.up2(F.relu(m.norm(m.up1(y)))))
    return Of(run, a=conv(3, 8, 3, 2, act=nn.Hardswish), b=conv(8, 8, 3, 2, act=nn.Hardswish),
              up1=nn.Conv2DTranspose(8, 8, 2, 2), norm=nn.BatchNorm2D(8),
              up2=nn.Conv2DTranspose(8, 1, 2, 2))


def _conv1d():
    def run(m, x):
        return m.head(F.relu(m.b(F.relu(m.a(x)).mean(2))).mean(-1))
    return Of(run, a=nn.Conv2D(3, 8, 3, 2, 1), b=nn.Conv1D(8, 16, 3, padding=1),
              head=nn.Linear(16, 10))


def _normed(wrap):
    return Of(lambda m, x: m.head(F.relu(m.a(x))), a=wrap(nn.Conv2D(3, 8, 3, 2, 1)),
              head=nn.Conv2D(8, 4, 1))


def _standardized():
    def run(m, x):
        w = m.a.weight
        w = (w - w.mean([1, 2, 3], keepdim=True)) / (w.std([1, 2, 3], keepdim=True) + 1e-5)
        return m.head(F.relu(F.conv2d(x, w, m.a.bias, 2, 1)))
    return Of(run, a=nn.Conv2D(3, 8, 3, 2, 1), head=nn.Conv2D(8, 4, 1))


def _equalized():
    return Of(lambda m, x: m.head(F.relu(F.conv2d(x, m.a.weight * 0.5, m.a.bias, 2, 1))),
              a=nn.Conv2D(3, 8, 3, 2, 1), head=nn.Conv2D(8, 4, 1))


def _half():
    return Of(lambda m, x: m.head(F.relu(F.conv2d(x, m.a.weight.astype("float32"), None, 2, 1))),
              a=_to_half(nn.Conv2D(3, 8, 3, 2, 1, bias_attr=False)), head=nn.Conv2D(8, 4, 1))


def _to_half(layer):
    layer.to(dtype="float16")
    return layer


def _shared():
    def run(m, x):
        x = m.a(x)
        return m.head(m.b(m.b(x)))
    return Of(run, a=conv(3, 8, 3, 2), b=nn.Conv2D(8, 8, 3, padding=1), head=nn.Conv2D(8, 4, 1))


def _super_resolution():
    return nn.Sequential(conv(3, 8, act=nn.PReLU), nn.Conv2D(8, 12, 3, padding=1),
                         nn.PixelShuffle(2))


def _three_dimensions():
    return Of(lambda m, x: m.head(F.relu(m.a(x.unsqueeze(2))).squeeze(2)),
              a=nn.Conv3D(3, 8, 3, padding=1), head=nn.Conv2D(8, 4, 1))


def _normalized_input():
    def run(m, x):
        mean = paddle.to_tensor([0.4, 0.5, 0.6]).reshape([1, 3, 1, 1])
        return m.head(m.a((x / 255.0 - mean) / 0.2))
    return Of(run, a=conv(3, 8, 3, 2), head=nn.Conv2D(8, 4, 1))


_BUILDERS = {
    "lenet": _lenet, "residual": _residual, "inverted_residual": _inverted_residual,
    "squeeze_excite": _squeeze_excite, "shuffle": _shuffle, "inception": _inception,
    "dense": _dense, "unet_transposed": lambda: _unet(nn.Conv2DTranspose(16, 8, 2, 2)),
    "unet_upsample": lambda: _unet(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2D(16, 8, 1))),
    "unet_depthwise": lambda: _unet(nn.Sequential(
        nn.Conv2DTranspose(16, 16, 4, 2, 1, groups=16), nn.Conv2D(16, 8, 1))),
    "pyramid": _pyramid, "yolo_head": lambda: _yolo_head(-1),
    "yolo_head_batch_1": lambda: _yolo_head(1), "yolo_anchors": _yolo_anchors,
    "yolo_matrix_nms": _yolo_nms, "distribution_focal": _distribution_focal, "focus": _focus,
    "spatial_pyramid": _spatial_pyramid, "lstm": lambda: _recurrent(nn.LSTM),
    "lstm_both_ways": lambda: _recurrent(nn.LSTM, direction="bidirect"),
    "gru": lambda: _recurrent(nn.GRU), "simple_rnn": lambda: _recurrent(nn.SimpleRNN),
    "transformer": attention.transformer, "class_token": attention.class_token,
    "vision_transformer_batch_1": attention.ForOneImage,
    "window_attention": attention.window_attention, "multi_head_attention": attention.multi_head,
    "encoder_layer": attention.encoder_layer, "deformable_decoder": _deformable_decoder,
    "deformable_convolution": _deformable_convolution, "segmentation": _segmentation,
    "text_detector": _text_detector, "conv1d": _conv1d,
    "weight_norm": lambda: _normed(nn.utils.weight_norm),
    "spectral_norm": lambda: _normed(nn.utils.spectral_norm), "standardized": _standardized,
    "scaled_weights": _equalized, "float16_weights": _half, "shared_layer": _shared,
    "super_resolution": _super_resolution, "conv3d": _three_dimensions,
    "normalized_input": _normalized_input, "relative_position": attention.relative_position,
    "mobilenet_v3": lambda: paddle.vision.models.mobilenet_v3_small(scale=0.5, num_classes=10),
    "shufflenet_v2": lambda: paddle.vision.models.shufflenet_v2_x0_25(num_classes=10),
}
NETWORKS = {f"net_{name}": build for name, build in _BUILDERS.items()}
# exported with a fixed batch of one sample
BATCH_1 = ("net_yolo_head_batch_1", "net_vision_transformer_batch_1")
