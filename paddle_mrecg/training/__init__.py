# SPDX-License-Identifier: Apache-2.0
"""Quant-aware training: quantized layers, folded batch norms, quantized
additions, and the penalty.
"""
