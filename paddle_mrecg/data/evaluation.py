# SPDX-License-Identifier: Apache-2.0
"""Score a program: top-1 and top-5 on labelled images, or by the user's own function."""
import collections.abc
from typing import Callable, Dict, Iterable, List, Optional

import numpy as np

from ..config import Data, Evaluation
from ..errors import DataError, kind_of
from ..graph.graph import TensorInfo
from .hooks import bound_hook, call_hook, users_code
from .sources import chosen_images, open_loader

Predict = Callable[[Dict[str, np.ndarray]], List[np.ndarray]]


def make_evaluator(evaluation: Evaluation,
                   seed: int) -> Optional[Callable[[Predict], Dict[str, float]]]:
    """The scoring function that a section describes.

    Args:
        evaluation(Evaluation): the section.
        seed(int): draws the images when there are more than
            ``num_samples``; equal for all programs.

    Returns:
        callable: ``evaluator(predict) -> {metric: value}``, or None when the
            section is empty. ``predict``
        maps a feed to outputs; for labelled data it has ``inputs`` (list of
        ``TensorInfo``) or ``input_names``.

    Raises:
        DataError: at once for what ``bound_hook`` and ``chosen_images`` refuse; when called see
            ``data.open_loader``, ``data.call_hook`` and ``classification_metrics``.
    """
    if evaluation.evaluator is not None:
        how = dict(arguments=evaluation.evaluator_args, setting="Evaluation.evaluator_args")
        bound_hook(evaluation.evaluator, None, **how)

        def by_hook(predict):
            scores = call_hook(evaluation.evaluator, predict, **how)
            return checked_scores(scores, evaluation.evaluator)
        return by_hook
    if evaluation.data is None:
        return None
    chosen = None
    if evaluation.data.loader is not None:
        bound_hook(evaluation.data.loader, arguments=evaluation.data.loader_args,
                   setting="Evaluation.data.loader_args")
    elif evaluation.data.image_dir is not None or evaluation.data.label_file is not None:
        chosen = chosen_images(evaluation.data, seed, labelled=True)

    def by_labels(predict):
        batches = open_loader(evaluation.data, _inputs_of(predict, evaluation.data), seed,
                              labelled=True, section="Evaluation.data", chosen=chosen)
        return classification_metrics(predict, batches, evaluation.label_offset)
    return by_labels


def _inputs_of(predict, data: Data) -> List[TensorInfo]:
    """The program's inputs; of a ``predict`` that knows only their names,
    what the data section says.
    """
    if hasattr(predict, "inputs"):
        return list(predict.inputs)
    shape = tuple(data.input_shape or (-1, -1, -1)) if data.loader is None else ()
    return [TensorInfo(name, (-1,) + shape if shape else ()) for name in predict.input_names]


def classification_metrics(predict: Predict, batches: Iterable,
                           label_offset: int = 0) -> Dict[str, float]:
    """Share of samples whose label has the largest, or one of the five largest, scores.

    Args:
        predict(callable): feed -> outputs, the first being scores ``[B, classes]``
            (further axes of length one are ignored).
        batches(iterable): ``(feed, labels [B])`` pairs.
        label_offset(int, optional): added to labels. Default: 0.

    Returns:
        dict: ``top1`` and ``top5`` in 0 to 1. Of equal scores the first
            wins, as in argmax; a sample
        with NaN or infinity among its scores is a miss.

    Raises:
        DataError: no sample, labels outside the classes, or outputs that are not scores.

    Examples:
        >>> scores = np.eye(6, dtype="float32")
        >>> classification_metrics(lambda feed: [scores], [({}, np.array([0, 1, 2, 3, 4,
        ...     0]))])["top1"]
        0.8333333333333334
    """
    hits = {1: 0, 5: 0}
    count = 0
    for feed, labels in batches:
        scores = np.asarray(predict(feed)[0])
        scores = scores.reshape(len(scores), -1)
        labels = np.asarray(labels) + label_offset
        if len(scores) != len(labels) or scores.shape[1] < 2:
            raise DataError(f"the first output has shape {scores.shape} for {len(labels)} samples, "
                            "no scores per class: set Evaluation.evaluator instead of "
                            "Evaluation.data")
        if labels.min() < 0 or labels.max() >= scores.shape[1]:
            raise DataError(f"labels reach from {labels.min()} to {labels.max()}, the model has "
                            f"{scores.shape[1]} classes (counted from 0): check label_file and "
                            "Evaluation.label_offset")
        own = scores[np.arange(len(labels)), labels][:, None]
        rank = ((scores > own).sum(1)
                + ((scores == own) & (np.arange(scores.shape[1]) < labels[:, None])).sum(1))
        rank[~np.isfinite(scores).all(1)] = scores.shape[1]  # NaN compares with nothing: no hit
        for k in hits:
            hits[k] += int((rank < k).sum())
        count += len(labels)
    if not count:
        raise DataError("the evaluation data is empty: the loader gave no sample")
    return {f"top{k}": n / count for k, n in hits.items()}


def scores_of(predict: Predict, evaluator: Callable) -> Dict[str, float]:
    """What ``evaluator`` says of a program; raises DataError, see ``checked_scores``."""
    with users_code("the evaluator"):
        scores = evaluator(predict)
    return checked_scores(scores, getattr(evaluator, "__name__", "evaluator"))


def checked_scores(scores, name: str) -> Dict[str, float]:
    """What an evaluator returned, as numbers.

    Raises:
        DataError: it is not a mapping of names to numbers.
    """
    if not isinstance(scores, collections.abc.Mapping) or not scores:
        raise DataError(f"evaluator '{name}' must return a mapping of metric names to numbers, "
                        f"got {'an empty one' if scores == {} else type(scores).__name__}")
    result = {}
    for key, value in scores.items():
        try:
            if isinstance(value, (str, bytes)):
                raise ValueError(value)
            result[str(key)] = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"evaluator '{name}' must return a mapping of metric names to numbers, "
                            f"and '{key}' is {kind_of(value)}") from error
    return result
