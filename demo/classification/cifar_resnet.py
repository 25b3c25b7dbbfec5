# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 ResNet-20/32/44/56 with parameter-free shortcuts (He et al.
2016, section 4.2, option A).
"""
import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

DEPTHS = (20, 32, 44, 56)


class BasicBlock(nn.Layer):
    """Two 3x3 convolutions; the shortcut drops every other pixel and
    pads new channels with zeros.
    """

    def __init__(self, in_planes: int, planes: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2D(in_planes, planes, 3, stride=stride, padding=1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(planes)
        self.conv2 = nn.Conv2D(planes, planes, 3, padding=1, bias_attr=False)
        self.bn2 = nn.BatchNorm2D(planes)
        self.stride = stride
        self.new_channels = planes - in_planes

    def shortcut(self, x):
        if self.stride == 1 and not self.new_channels:
            return x
        before = self.new_channels // 2
        after = self.new_channels - before
        # a 1x1 pooling window with a stride is the subsampling x[:, :, ::2, ::2]
        kept = F.avg_pool2d(x, kernel_size=1, stride=self.stride)
        zeros = paddle.scale(kept, scale=0.0)
        return paddle.concat([zeros[:, :before], kept, zeros[:, :after]], axis=1)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class CifarResNet(nn.Layer):
    """Three stages of 16, 32 and 64 channels for 32x32 images.

    Args:
        depth(int): 20, 32, 44 or 56.
        num_classes(int, optional): width of the output. Default: 10.
    """

    def __init__(self, depth: int, num_classes: int = 10):
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"depth {depth} is none of {DEPTHS}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2D(3, 16, 3, padding=1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(16)
        self.layer1 = self._stage(16, 16, blocks, stride=1)
        self.layer2 = self._stage(16, 32, blocks, stride=2)
        self.layer3 = self._stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, num_classes)

    @staticmethod
    def _stage(in_planes, planes, blocks, stride):
        first = BasicBlock(in_planes, planes, stride)
        return nn.Sequential(first, *(BasicBlock(planes, planes, 1) for _ in range(blocks - 1)))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(paddle.flatten(F.adaptive_avg_pool2d(out, 1), 1))


def load_weights(model: CifarResNet, path) -> CifarResNet:
    """Fill ``model`` from an npz of PyTorch-named arrays and set it to inference.

    Args:
        model(CifarResNet): of the depth that the file holds.
        path(str|Path): npz; ``running_mean``, ``running_var`` and
            ``linear.weight`` [out, in] as in PyTorch.

    Raises:
        KeyError: an array that the model needs is missing.
    """
    with np.load(path, allow_pickle=False) as arrays:
        renamed = {name.replace("running_mean",
                                "_mean").replace("running_var", "_variance"): arrays[name]
                   for name in arrays.files}
    renamed["linear.weight"] = renamed["linear.weight"].T
    missing = sorted(set(model.state_dict()) - set(renamed))
    if missing:
        raise KeyError(f"{path} lacks {missing[:5]}")
    model.set_state_dict({name: renamed[name] for name in model.state_dict()})
    model.eval()
    return model
