# SPDX-License-Identifier: Apache-2.0
"""Quant-aware training: quantised layers, folded batch norms, quantised additions, and the penalty."""
