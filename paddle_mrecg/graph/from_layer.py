# SPDX-License-Identifier: Apache-2.0
"""Turn an ``nn.Layer`` into a Graph by exporting it: no second way of reading models."""
import os
import warnings

from ..compat import forget_traces
from ..errors import ModelError, MrecgError, said
from ..scratch import scratch_folder
from .graph import Graph
from .load import load_graph


def graph_from_layer(layer, input_spec=None, name=None) -> Graph:
    """Export a layer in evaluation mode and read what was exported.

    On Paddle 3.x this goes through PIR, whose exporter takes models that the
    old one refuses there (``F.sigmoid``, ``paddle.multiply``).

    Args:
        layer(paddle.nn.Layer): the float model; its training flags are restored.
        input_spec(list[paddle.static.InputSpec], optional): one per input; -1 or None where a
            dimension is free, the batch always. Default: None, for a layer that went through
            ``paddle.jit.to_static`` with specs.
        name(str, optional): of the model in messages and reports. Default: None, the layer's class.

    Returns:
        Graph: the model.

    Raises:
        ModelError: the layer cannot be exported.
    """
    import paddle
    name = name or type(layer).__name__
    modes = [(sub, sub.training) for sub in layer.sublayers(include_self=True)]
    layer.eval()
    forget_traces()  # of the caller's
    try:
        with scratch_folder() as directory, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prefix = os.path.join(directory, "model")
            paddle.jit.save(layer, prefix, input_spec=input_spec)
            graph = load_graph(prefix)
    except MrecgError:
        raise
    except Exception as error:  # whatever the exporter raises, the cure is the same
        reason = said(error)
        raise ModelError(f"{name} cannot be exported with paddle.jit.save "
                         f"({reason}): check input_spec, or export the model "
                         "and give its directory") from error
    finally:
        forget_traces()
        for sub, training in modes:
            sub.training = training
    graph.remarks = tuple(text.replace(graph.source, name) for text in graph.remarks)
    graph.source, graph.files = name, None  # the files are gone
    return graph
