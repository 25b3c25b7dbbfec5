# SPDX-License-Identifier: Apache-2.0
"""PaddleSlim's names in a section of ours: what to write instead."""
from .aware import AWARE
from .post import POST
from .translation import To

# Arguments of PaddleSlim's functions that the tables leave to the functions themselves.
ARGUMENTS = {"round_type": To("QuantPost", "rounding"), "recon_level": To("MRECG", "granularity"),
             "skip_tensor_list": To("QuantPost", "skip"), "batch_nums": To("Data", "num_samples"),
             "data_loader": To("Data", "loader"), "evaluator": To("Evaluation", "evaluator")}


def name_for(key, training: bool) -> str:
    """`` PaddleSlim's 'key' is Section.key here.`` or what to do without it; empty for a name that
    is not PaddleSlim's.

    Args:
        key: what the user wrote.
        training(bool): in settings of quantization-aware training, else of post-training.
    """
    rule = (AWARE if training else {**ARGUMENTS, **POST}).get(key) if isinstance(key, str) else None
    if rule is None:
        return ""
    if isinstance(rule, To):
        return f" PaddleSlim's '{key}' is {rule.section}.{rule.key} here."
    return f" PaddleSlim's '{key}' is not needed here: {getattr(rule, 'cure', '') or rule.why}."
