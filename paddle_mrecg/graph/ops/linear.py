# SPDX-License-Identifier: Apache-2.0
"""Matrix products."""
import math

import paddle

from .registry import rule, register_table

register_table("X Y", {"bmm": paddle.bmm, "dot": paddle.dot})
register_table("X Vec", {"mv": paddle.mv})


@rule("matmul_v2")
def matmul_v2(call):
    if any(value for name, value in call.op.attrs.items()
           if name.startswith(("fused_reshape", "fused_transpose"))):
        raise call.unsupported("fused reshape or transpose")
    return paddle.matmul(call("X"), call("Y"), call.attr("trans_x", False),
                         call.attr("trans_y", False))


@rule("matmul")
def matmul(call):
    result = paddle.matmul(call("X"), call("Y"), call.attr("transpose_X", False),
                           call.attr("transpose_Y", False))
    alpha = call.attr("alpha", 1.0)
    return result if alpha == 1.0 else paddle.scale(result, alpha)


@rule("mul")
def mul(call):
    """Both operands flattened to matrices; the result gets the outer dimensions back."""
    x, y = call("X"), call("Y")
    split_x, split_y = call.attr("x_num_col_dims", 1), call.attr("y_num_col_dims", 1)
    rows, columns = x.shape[:split_x], y.shape[split_y:]
    product = paddle.matmul(x.reshape([math.prod(rows), -1]), y.reshape([-1, math.prod(columns)]))
    return product.reshape(rows + columns)
