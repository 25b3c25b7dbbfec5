# SPDX-License-Identifier: Apache-2.0
"""Functions that move, search and make elements; ``y`` is ``[N, 8, 8, 8]``, not negative."""

import numpy as np
import paddle
import paddle.nn.functional as F

from .constants import constant

LAYOUT = {
    "reshape": lambda y: y.reshape([0, 4, -1]),
    "reshape_batch": lambda y: y.reshape([y.shape[0], 512]),
    "reshape_shape": lambda y: y.reshape([paddle.shape(y)[0], -1]),
    "transpose": lambda y: y.transpose([0, 2, 3, 1]),
    "flatten": lambda y: y.flatten(1),
    "squeeze": lambda y: y.mean(1, keepdim=True).squeeze(1),
    "unsqueeze": lambda y: y.unsqueeze([1, -1]),
    "concat": lambda y: paddle.concat([y, 1 - y], 1),
    "stack": lambda y: paddle.stack([y, 1 - y], 1),
    "split": lambda y: paddle.split(y, 2, 1)[1],
    "split_sections": lambda y: paddle.split(y, [3, 5], 1)[1],
    "chunk": lambda y: paddle.chunk(y, 4, 1)[2],
    "unbind": lambda y: paddle.unbind(y, 1)[2],
    "unstack": lambda y: paddle.unstack(y, 3)[1],
    "expand": lambda y: y.mean(1, keepdim=True).expand([-1, 4, -1, -1]),
    "expand_as": lambda y: y.mean(1, keepdim=True).expand_as(y),
    "broadcast_to": lambda y: paddle.broadcast_to(constant(1, 8), [8, 8]) + y,
    "broadcast_tensors": lambda y: paddle.broadcast_tensors([y, constant(1, 8)])[1] + y,
    "tile": lambda y: paddle.tile(y, [1, 2, 1, 1]),
    "repeat_interleave": lambda y: paddle.repeat_interleave(y, 2, 1),
    "flip": lambda y: paddle.flip(y, [3]),
    "roll": lambda y: paddle.roll(y, [1, 2], [2, 3]),
    "rot90": lambda y: paddle.rot90(y, 1, [2, 3]),
    "moveaxis": lambda y: paddle.moveaxis(y, 1, 3),
    "swapaxes": lambda y: y.transpose([0, 3, 2, 1]),
    "slice": lambda y: y[:, 1:5],
    "slice_negative": lambda y: y[:, -3:],
    "slice_int": lambda y: y[:, 2],
    "slice_ellipsis": lambda y: y[..., 1],
    "strided_slice": lambda y: y[..., ::2, ::2],
    "focus": lambda y: paddle.concat([y[..., ::2, ::2], y[..., 1::2, ::2]], 1),
    "reverse_slice": lambda y: y[:, ::-1],
    "none_index": lambda y: y[:, None],
    "mask_index": lambda y: y[y > 0.5].sum(),
    "list_index": lambda y: y[:, [0, 2, 4]],
    "computed_index": lambda y: y[:, paddle.argmax(y.mean([0, 2, 3])), 1],
    "loop": lambda y: _halved(y),
    "branch": lambda y: paddle.static.nn.cond(y.mean() > 0.3, lambda: y * 2, lambda: y - 1),
    "setitem": lambda y: _set(y),
    "setitem_computed": lambda y: _add_channels(y),
    "gather": lambda y: paddle.gather(y, paddle.to_tensor([1, 3]), 1),
    "gather_nd": lambda y: paddle.gather_nd(
        y.transpose([1, 0, 2, 3]), paddle.to_tensor([[1], [3]])
    ),
    "index_select": lambda y: paddle.index_select(y, paddle.to_tensor([0, 3]), 1),
    "index_sample": lambda y: paddle.index_sample(
        y[:, 0, 0], paddle.argsort(y[:, 0, 0], -1)[:, :2]
    ),
    "take_along_axis": lambda y: paddle.take_along_axis(y, paddle.argsort(y, 1), 1),
    "put_along_axis": lambda y: paddle.put_along_axis(y, paddle.argmax(y, 1, keepdim=True), 2.0, 1),
    "scatter": lambda y: paddle.scatter(
        y.transpose([1, 0, 2, 3]), paddle.to_tensor([1, 2]), y.transpose([1, 0, 2, 3])[:2] + 1
    ),
    "scatter_nd_add": lambda y: paddle.scatter_nd_add(
        y[0, 0], paddle.to_tensor([[1], [2]]), y[0, 1, :2]
    ),
    "masked_select": lambda y: paddle.masked_select(y, y > 0.5).mean(),
    "nonzero": lambda y: paddle.nonzero(y[0, 0] > -1).astype("float32").sum(),
    "index_add": lambda y: paddle.index_add(y, paddle.to_tensor([1]), 1, y[:, :1]),
    "index_put": lambda y: paddle.index_put(y[0, 0], (paddle.to_tensor([1, 2]),), y[0, 1, :2]),
    "pad": lambda y: F.pad(y, [1, 2, 3, 0]),
    "pad_reflect": lambda y: F.pad(y, [1, 2, 3, 0], "reflect"),
    "pad_replicate": lambda y: F.pad(y, [1, 2, 3, 0], "replicate"),
    "pad_circular": lambda y: F.pad(y, [1, 2, 3, 0], "circular"),
    "pad_all": lambda y: F.pad(y, [0, 0, 1, 1, 0, 0, 2, 2]),
    "zeropad2d": lambda y: F.zeropad2d(y, [1, 0, 2, 1]),
    "pixel_shuffle": lambda y: F.pixel_shuffle(y, 2),
    "pixel_unshuffle": lambda y: F.pixel_unshuffle(y, 2),
    "channel_shuffle": lambda y: F.channel_shuffle(y, 2),
    "unfold": lambda y: F.unfold(y, 3),
    "fold": lambda y: F.fold(F.unfold(y, 2, 2), [8, 8], 2, 2),
    "tensor_unfold": lambda y: y.unfold(3, 2, 2) if hasattr(y, "unfold") else y,
    "diagonal": lambda y: paddle.diagonal(y, 0, 2, 3),
    "diag": lambda y: paddle.diag(y[0, 0, 0]),
    "diag_embed": lambda y: (
        paddle.diag_embed(y[:, 0, 0]) if hasattr(paddle, "diag_embed") else F.diag_embed(y[:, 0, 0])
    ),
    "tril": lambda y: paddle.tril(y),
    "triu": lambda y: paddle.triu(y, 1),
    "meshgrid": lambda y: paddle.meshgrid(y[0, 0, 0], y[0, 1, 0])[0],
    "view": lambda y: y.view([-1, 64]) if hasattr(y, "view") else y,
    "crop": lambda y: paddle.crop(y, [-1, 4, 8, 8], [0, 2, 0, 0]),
    "as_strided_free": lambda y: y.reshape([-1, 2, 4, 8, 8]).mean(1),
    "atleast": lambda y: paddle.unsqueeze(y.mean(), 0),
    "shard_index": lambda y: paddle.shard_index(paddle.argmax(y, 1).unsqueeze(-1), 20, 2, 0),
    "temporal_shift": lambda y: F.temporal_shift(y, 1, 0.25),
    "unflatten": lambda y: y.reshape([0, 2, 4, 8, 8]),
}


def _halved(y):
    def body(k, z):
        return k + 1, z * 0.5
    start = paddle.zeros([1], "int64")
    return paddle.static.nn.while_loop(lambda k, z: k < 3, body, [start, y])[1]


def _set(y):
    y = y.clone()
    y[:, 0] = 1.0
    return y


def _add_channels(y):
    y = y.clone()
    y[:, 2:6] = y[:, :4] + y[:, 2:6]
    return y


SEARCH = {
    "argmax": lambda y: paddle.argmax(y, 1),
    "argmin": lambda y: paddle.argmin(y + constant(8, 1, 1), 1),
    "argsort": lambda y: paddle.argsort(y + constant(8, 8, 8), -1),
    "sort": lambda y: paddle.sort(y, 1, descending=True),
    "topk": lambda y: paddle.topk(y, 3, 1)[0],
    "topk_indices": lambda y: paddle.topk(y + constant(8, 1, 1), 3, 1)[1].astype("float32"),
    "topk_computed": lambda y: paddle.topk(y, paddle.shape(y)[1] - 5, 1)[0],
    "one_hot": lambda y: F.one_hot(paddle.argmax(y, 1), 8),
    "embedding": lambda y: F.embedding(paddle.argmax(y, 1), constant(8, 4)),
    "searchsorted": lambda y: paddle.searchsorted(paddle.to_tensor([0.2, 0.5, 1.0]), y),
    "bucketize": lambda y: paddle.bucketize(y, paddle.to_tensor([0.2, 0.5, 1.0])),
    "unique": lambda y: paddle.unique((y[0, 0] * 4).astype("int32")),
    "allclose": lambda y: paddle.allclose(y, y),
    "equal_all": lambda y: paddle.equal_all(y, y),
    "label_smooth": lambda y: F.label_smooth(F.one_hot(paddle.argmax(y, 1), 8)),
    "sequence_mask": lambda y: F.sequence_mask(paddle.argmax(y[:, 0, 0], -1), 8),
}
MAKERS = {
    "arange": lambda y: y + paddle.arange(8, dtype="float32"),
    "arange_shape": lambda y: y + paddle.arange(paddle.shape(y)[3]).astype("float32"),
    "linspace": lambda y: y + paddle.linspace(0, 1, 8),
    "full": lambda y: y + paddle.full([8, 1, 1], 2.0),
    "full_like": lambda y: y + paddle.full_like(y, 3.0),
    "zeros_like": lambda y: y + paddle.zeros_like(y),
    "ones_like": lambda y: y * paddle.ones_like(y),
    "zeros_free_batch": lambda y: y + paddle.zeros([paddle.shape(y)[0], 8, 1, 1]),
    "eye": lambda y: y + paddle.eye(8),
    "to_tensor": lambda y: y * paddle.to_tensor(np.arange(8, dtype="float32")),
    "inf_mask": lambda y: F.softmax(y + paddle.triu(paddle.full([8, 8], float("-inf")), 1), -1),
    "causal_mask": lambda y: F.softmax(y + paddle.triu(paddle.full([8, 8], -1e4), 1), -1),
    "inf_where": lambda y: paddle.where(y > 0.1, y, paddle.full([1], float("-inf"))).max(1),
    "assign": lambda y: paddle.assign(y) * 2,
    "shape": lambda y: paddle.shape(y).astype("float32"),
    "shape_scale": lambda y: y / paddle.shape(y)[2].astype("float32"),
    "tril_indices": lambda y: y[0, 0, 0] + paddle.tril_indices(8, 8, 0)[0][:8].astype("float32"),
    "meshgrid_points": lambda y: (
        y
        + paddle.stack(paddle.meshgrid(paddle.arange(8), paddle.arange(8)), 0)
        .sum(0)
        .astype("float32")
    ),
}
