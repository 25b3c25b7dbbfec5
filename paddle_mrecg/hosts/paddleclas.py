# SPDX-License-Identifier: Apache-2.0
"""PaddleClas: ``tools/train.py``, ``eval.py`` and ``export_model.py``;
``deploy/slim/quant_post_static.py``.

PaddleClas quantizes where its config says ``Slim: {quant: {name: pact}}``, and asserts that name.
"""
import functools

NAME, PACKAGE = "PaddleClas", "ppcls"
SWITCH = "Slim: {quant: {name: pact}}"


def look_ahead(call, config):
    """Lines of ``run --check``: what is written where."""
    places = config.get("Global") or {}
    inference = places.get("save_inference_dir") or "./inference"
    lines = [f"writes   train.py: checkpoints in {places.get('output_dir') or './output'}",
             f"writes   export_model.py: {inference}/inference_int8.pdmodel, .pdiparams and the "
             "folder inference_int8.mrecg"]
    if not (config.get("Slim") or {}).get("quant"):
        lines.append(f"missing  PaddleClas quantizes only what its file asks for: add `{SWITCH}`")
    return lines


def _tell(engine, switches):
    """Plan for the first optimizer, which is the model's; others are of losses."""
    optimizer, schedule = (value[0] if isinstance(value, (list, tuple)) else value
                           for value in (engine.optimizer, getattr(engine, "lr_sch", None)))
    steps = max(1, len(engine.train_dataloader) // engine.update_freq)
    switches.plan(optimizer, engine.config["Global"]["epochs"] * steps,
                  steps if getattr(schedule, "by_epoch", False) else 1)


def install(patches, switches):
    """Tell the switches PaddleClas's epochs, and forget what quanters learn from the picture
    that its summary runs on.
    """
    from ppcls import arch
    from ppcls.engine.engine import Engine

    from ..aware.layers import quantized_layers
    quantize, initialise = arch.quantize_model, Engine.__init__

    @functools.wraps(quantize)
    def quantize_model(config, model, mode="train"):
        if not (config.get("Slim") or {}).get("quant"):
            switches.refuse(f"PaddleClas quantizes only what its config asks for: add `{SWITCH}` "
                            "next to our sections")
        if mode == "train" and config.get("EMA"):
            switches.refuse("EMA: PaddleClas copies the model before its quanters have seen a "
                            "batch; leave the section out")
        quantize(config, model, mode)
        # it printed a summary, which runs the model on random numbers
        for _, layer in quantized_layers(model):
            for quanter in layer.quanters():
                quanter.forget()

    @functools.wraps(initialise)
    def __init__(engine, *args, **kwargs):
        initialise(engine, *args, **kwargs)
        train_epoch, told = engine.train_epoch_func, []
        switches.accumulated = engine.update_freq

        def train_epoch_func(trained, epoch_id, *rest):
            if not told:
                told.append(_tell(trained, switches))
            switches.on_epoch(epoch_id - 1, trained.config["Global"]["epochs"])
            return train_epoch(trained, epoch_id, *rest)

        engine.train_epoch_func = train_epoch_func

    patches.replace(arch, "quantize_model", quantize_model)
    patches.replace(Engine, "__init__", __init__)
