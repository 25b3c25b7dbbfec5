# SPDX-License-Identifier: Apache-2.0
"""Small networks with attention."""
import paddle
import paddle.nn as nn
import paddle.nn.functional as F

from .blocks import Of


def _attention(m, x, heads):
    size = x.shape[-1] // heads
    q, k, v = m.qkv(x).reshape([0, -1, 3, heads, size]).transpose([2, 0, 3, 1, 4]).unbind(0)
    weights = F.softmax(paddle.matmul(q * size ** -0.5, k, transpose_y=True), -1)
    return m.proj(paddle.matmul(weights, v).transpose([0, 2, 1, 3]).flatten(2))


def transformer():
    def run(m, x):
        x = m.patch(x).flatten(2).transpose([0, 2, 1]) + m.position
        x = x + _attention(m, m.n1(x), 2)
        x = x + m.fc2(F.gelu(m.fc1(m.n2(x))))
        return m.head(m.n3(x).mean(1))
    net = Of(run, patch=nn.Conv2D(3, 16, 8, 8), n1=nn.LayerNorm(16), qkv=nn.Linear(16, 48),
             proj=nn.Linear(16, 16), n2=nn.LayerNorm(16), fc1=nn.Linear(16, 32),
             fc2=nn.Linear(32, 16), n3=nn.LayerNorm(16), head=nn.Linear(16, 10))
    net.position = net.create_parameter([1, 16, 16])
    return net


def class_token():
    def run(m, x):
        x = m.patch(x).flatten(2).transpose([0, 2, 1])
        token = m.token.expand([paddle.shape(x)[0], -1, -1])
        x = paddle.concat([token, x], 1)
        return m.head((x + _attention(m, m.n1(x), 2))[:, 0])
    net = Of(run, patch=nn.Conv2D(3, 16, 8, 8), n1=nn.LayerNorm(16), qkv=nn.Linear(16, 48),
             proj=nn.Linear(16, 16), head=nn.Linear(16, 10))
    net.token = net.create_parameter([1, 1, 16])
    return net


def window_attention():
    def run(m, x):
        x = m.patch(x).transpose([0, 2, 3, 1])
        x = paddle.roll(x, [-2, -2], [1, 2])
        x = x.reshape([-1, 2, 4, 2, 4, 16]).transpose([0, 1, 3, 2, 4, 5]).reshape([-1, 16, 16])
        x = x + _attention(m, m.n1(x), 2)
        x = x.reshape([-1, 2, 2, 4, 4, 16]).transpose([0, 1, 3, 2, 4, 5]).reshape([-1, 8, 8, 16])
        x = paddle.roll(x, [2, 2], [1, 2])
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return m.merge(paddle.concat(parts, -1)).mean([1, 2])
    return Of(run, patch=nn.Conv2D(3, 16, 4, 4), n1=nn.LayerNorm(16), qkv=nn.Linear(16, 48),
              proj=nn.Linear(16, 16), merge=nn.Linear(64, 10))


def multi_head():
    def run(m, x):
        x = m.patch(x).flatten(2).transpose([0, 2, 1])
        return m.head(m.attention(x, x, x).mean(1))
    return Of(run, patch=nn.Conv2D(3, 16, 8, 8), attention=nn.MultiHeadAttention(16, 2),
              head=nn.Linear(16, 10))


def encoder_layer():
    def run(m, x):
        return m.head(m.layer(m.patch(x).flatten(2).transpose([0, 2, 1])).mean(1))
    return Of(run, patch=nn.Conv2D(3, 16, 8, 8), head=nn.Linear(16, 10),
              layer=nn.TransformerEncoderLayer(16, 2, 32))


def relative_position():
    def run(m, x):
        y = m.a(x).flatten(2).transpose([0, 2, 1])
        rows = paddle.arange(16).unsqueeze(1) - paddle.arange(16).unsqueeze(0) + 15
        bias = F.embedding(rows, m.table.weight).squeeze(-1)
        mask = paddle.triu(paddle.full([16, 16], float("-inf")), 1)
        weights = F.softmax(paddle.matmul(y, y, transpose_y=True) + bias + mask, -1)
        return m.head(paddle.matmul(weights, y))
    return Of(run, a=nn.Conv2D(3, 8, 8, 8), table=nn.Embedding(31, 1), head=nn.Linear(8, 5))


class ForOneImage(nn.Layer):
    """A vision transformer as converters write it for one image: a class token is joined, the
    batch is dropped.
    """

    def __init__(self):
        super().__init__()
        self.patches, self.qkv, self.out = nn.Conv2D(3, 16, 8, 8), nn.Linear(16, 48), nn.Linear(
            16, 16)
        self.token, self.places = (self.create_parameter([1, n, 16]) for n in (1, 17))
        self.norm, self.wide, self.narrow = nn.LayerNorm(16), nn.Linear(16, 64), nn.Linear(64, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        y = self.patches(x).reshape([1, 16, 16]).transpose([0, 2, 1])
        y = paddle.concat([self.token, y], 1) + self.places
        parts = self.qkv(self.norm(y)).reshape([17, 3, 2, 8]).transpose([1, 2, 0, 3])
        q, k, v = (part.squeeze(0) for part in paddle.split(parts, 3, 0))
        seen = F.softmax(q @ k.transpose([0, 2, 1]) * 0.3, -1) @ v
        y = y + self.out(seen.transpose([1, 0, 2]).reshape([1, 17, 16]))
        return self.head((y + self.narrow(F.gelu(self.wide(y))))[:, 0])
