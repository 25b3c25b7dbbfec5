# SPDX-License-Identifier: Apache-2.0
"""Everything that may stop a run, found without the run: for ``plan`` and ``validate --model``."""
import contextlib
import dataclasses
import os
from typing import Callable, Optional

from ..compat import seed_everything
from ..config import Config
from ..data.evaluation import checked_scores, make_evaluator
from ..data.hooks import users_code
from ..deploy.predictor import scored_program
from ..graph.fold import fold
from ..graph.writer import save_program
from ..report.result_dir import ResultDir
from ..scratch import scratch_folder
from .prepare import Prepared, prepare, read_model
from .scheme import build_scheme

TRIED_SAMPLES = 8  # of the evaluation's


@contextlib.contextmanager
def examined(config: Config, model=None, data_loader=None):
    """A prepared job: the model is read, written and run, the samples are read, the evaluation is
    tried on a few samples.

    Args:
        config(Config): complete settings.
        model, data_loader: as of ``quant_post_mrecg``.

    Raises:
        MrecgError: whatever a run would raise before its first step.
    """
    seed_everything(config.global_.seed)
    evaluator = _few(config)
    prepared = prepare(model, data_loader, config, config.global_.save_dir)
    with contextlib.closing(prepared.network.store):
        if evaluator:
            _try(evaluator, prepared)
        yield prepared


def check_model(config: Config) -> None:
    """Raise MrecgError where no data would make the model at ``Global.model_dir`` fit for the
    settings.
    """
    build_scheme(fold(read_model(None, config)), config.quant_post, config.global_.target)


def check_place(config: Config) -> None:
    """Raise OutputError when the result could not be written."""
    source = config.global_.model_dir
    with ResultDir(config.global_.save_dir, resume=True,
                   inputs=[os.fspath(source)] if source else []):
        pass


def _few(config: Config) -> Optional[Callable]:
    """The evaluator on a few samples, all labels checked; a function of the user's is not called,
    for it may take long: that it is there and takes its arguments is checked.
    """
    evaluation = config.evaluation
    whole = make_evaluator(evaluation, config.global_.seed)
    if whole is None or evaluation.evaluator is not None:
        return None
    few = min(TRIED_SAMPLES, evaluation.data.num_samples)
    evaluation = dataclasses.replace(
        evaluation, data=dataclasses.replace(evaluation.data, num_samples=few))
    return make_evaluator(evaluation, config.global_.seed)


def _try(evaluator: Callable, prepared: Prepared) -> None:
    with scratch_folder() as folder:
        prefix = os.path.join(folder, "float")
        save_program(prepared.float_graph, prefix)
        graph = prepared.float_graph
        predict = scored_program(prefix, graph)
        with users_code("the evaluator"):
            checked_scores(evaluator(predict), "evaluator")
