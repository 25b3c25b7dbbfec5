# SPDX-License-Identifier: Apache-2.0
"""From the raw heads of a YOLO to detections, in numpy: what an
application does behind the network.
"""
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from demo.detection.yolo_fastest import Head


class Detections(NamedTuple):
    """Boxes of one image.

    Attributes:
        boxes(np.ndarray): [N, 4] left, top, right, bottom in pixels of the image.
        scores(np.ndarray): [N], best first.
        classes(np.ndarray): [N] integers.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)  # does not overflow


def decode_head(output: np.ndarray, head: Head,
                size: Tuple[int, int]) -> Tuple[np.ndarray, np.ndarray]:
    """darknet's boxes of one head and one image.

    Args:
        output(np.ndarray): [A * (5 + classes), h, w], every anchor's x, y, w,
            h, objectness and classes.
        head(Head): of this output.
        size(tuple): height and width of the network's input.

    Returns:
        tuple: boxes [h * w * A, 4] as left, top, right, bottom in 0 to 1, and
            scores [h * w * A, classes].
    """
    _, rows, columns = output.shape
    x, y, w, h, objectness, *classes = np.moveaxis(output.reshape(len(head.anchors),
                                                                  5 + head.classes, rows, columns),
                                                   1, 0)
    stretch = lambda v: sigmoid(v) * head.scale_xy - (head.scale_xy - 1) / 2  # noqa: E731
    centre_x = (np.arange(columns)[None, None, :] + stretch(x)) / columns
    centre_y = (np.arange(rows)[None, :, None] + stretch(y)) / rows
    half_w = np.exp(w) * head.anchors[:, 0, None, None] / size[1] / 2
    half_h = np.exp(h) * head.anchors[:, 1, None, None] / size[0] / 2
    boxes = np.stack([centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h],
                     -1)
    scores = sigmoid(objectness) * sigmoid(np.stack(classes))
    return (boxes.reshape(-1, 4).astype(np.float32),
            scores.reshape(head.classes, -1).T.astype(np.float32))


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, overlap: float,
             keep: int = 100) -> Detections:
    """Non-maximum suppression per class; a box counts for each class above ``threshold``.

    Paddle's own operator does the work: it comes with every Paddle this project runs on, while
    OpenCV's needs a build for the numpy that is installed.

    Args:
        boxes(np.ndarray): [N, 4].
        scores(np.ndarray): [N, classes].
        threshold(float): smallest score of a candidate.
        overlap(float): a box goes when it overlaps a better one of its class by more than this.
        keep(int, optional): detections that stay. Default: 100, as COCO counts.
    """
    import paddle
    index, classes = np.nonzero(scores > threshold)
    chosen = scores[index, classes]
    kept = np.zeros(0, np.int64)
    if len(index):
        place = paddle.CPUPlace()
        tensors = [paddle.to_tensor(v, place=place) for v in (boxes[index], chosen, classes)]
        kept = paddle.vision.ops.nms(tensors[0], overlap, tensors[1], tensors[2],
                                     np.unique(classes).tolist()).numpy()
    kept = kept.reshape(-1)
    kept = kept[np.argsort(-chosen[kept], kind="stable")][:keep]
    return Detections(boxes[index[kept]], chosen[kept], classes[kept])


def detect(outputs: Sequence[np.ndarray], heads: Sequence[Head], size: Tuple[int, int],
           image_sizes: Sequence[Tuple[int, int]], threshold: float = 0.005,
           overlap: float = 0.45) -> List[Detections]:
    """Detections of a batch.

    Args:
        outputs(list): one [N, A * (5 + classes), h, w] per head.
        heads(list[Head]): in the same order.
        size(tuple): height and width of the network's input, to which the images were squeezed.
        image_sizes(list): height and width of every image.
        threshold(float, optional): smallest score. Default: 0.005, what darknet measures with.
        overlap(float, optional): of ``suppress``. Default: 0.45, darknet's.
    """
    found = []
    for k, (height, width) in enumerate(image_sizes):
        parts = [decode_head(np.asarray(output)[k], head, size)
                 for output, head in zip(outputs, heads)]
        boxes, scores = (np.concatenate(part) for part in zip(*parts))
        boxes = boxes.clip(0, 1) * np.float32([width, height, width, height])
        found.append(suppress(boxes, scores, threshold, overlap))
    return found
