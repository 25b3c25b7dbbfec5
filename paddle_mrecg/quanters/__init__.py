# SPDX-License-Identifier: Apache-2.0
"""Fake quantizers with learned grids, as layers on ``paddle.quantization``'s factory API."""
