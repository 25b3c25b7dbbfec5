# SPDX-License-Identifier: Apache-2.0
"""PaddleDetection's scripts: train, eval, export_model, post_quant with ``--slim_config``."""
import copy
import functools

from ..graph.specs import declared_specs

NAME, PACKAGE = "PaddleDetection", "ppdet"


def look_ahead(call, config):
    """Lines of ``run --check``: what is written where."""
    folder = config.get("save_dir") or config.get("output_dir") or "output"
    lines = [f"writes   train.py: checkpoints below {folder}",
             "writes   export_model.py: model.pdmodel, .pdiparams and the folder model.mrecg in "
             "--output_dir, below the name of the config"]
    if config.get("slim") != "QAT":
        lines.append("missing  PaddleDetection quantizes only what its file asks for: add "
                     "`slim: QAT` to the --slim_config file")
    return lines


def install(patches, switches):
    """Tell the switches PaddleDetection's epochs, and keep our names in ``QAT.quant_config`` when
    it evaluates and exports.
    """
    from ppdet.engine import trainer
    from ppdet.slim import quant

    from ..config.dialect.aware import dict_names_ours
    from ..aware.layers import as_float
    train, begin = trainer.Trainer.train, trainer.ComposeCallback.on_epoch_begin
    initialise, quantize = quant.QAT.__init__, quant.QAT.__call__
    find_inputs = trainer.Trainer._get_infer_cfg_and_input_spec
    epochs = []

    @functools.wraps(train)
    def train_(self, *args, **kwargs):
        epochs[:] = [self.cfg.epoch]
        switches.plan(self.optimizer, self.cfg.epoch * len(self.loader))
        return train(self, *args, **kwargs)

    @functools.wraps(begin)
    def on_epoch_begin(self, status):
        if epochs and status.get("mode") == "train":
            switches.on_epoch(status["epoch_id"], epochs[0])
        return begin(self, status)

    @functools.wraps(find_inputs)
    def _get_infer_cfg_and_input_spec(self, *args, **kwargs):
        # which is traced only to see what it reads
        with as_float(kwargs.get("model") or self.model):
            traced, specs = find_inputs(self, *args, **kwargs)
        return traced, specs if specs != [{}] else read_inputs(traced)

    @functools.wraps(initialise)
    def __init__(self, quant_config, *args, **kwargs):
        initialise(self, quant_config, *args, **kwargs)
        self._as_given = copy.deepcopy(dict(quant_config))

    @functools.wraps(quantize)
    def __call__(self, model):
        # PaddleDetection takes activation_preprocess_type out unless it trains
        if dict_names_ours(self._as_given):
            self.quant_config = self._as_given
        return quantize(self, model)

    patches.replace(trainer.Trainer, "train", train_)
    patches.replace(trainer.Trainer, "_get_infer_cfg_and_input_spec", _get_infer_cfg_and_input_spec)
    patches.replace(trainer.ComposeCallback, "on_epoch_begin", on_epoch_begin)
    patches.replace(quant.QAT, "__init__", __init__)
    patches.replace(quant.QAT, "__call__", __call__)


def read_inputs(traced):
    """Specs of the inputs that a traced detector reads, which PaddleDetection
    fails to find on Paddle 3.
    """
    specs, = declared_specs(traced)
    read = {op.attrs()["name"] for op in traced.forward.main_program.global_block().ops
            if op.name() == "pd_op.data" and not op.result(0).use_empty()}
    return [{key: spec for key, spec in specs.items() if spec.name in read}]
