# SPDX-License-Identifier: Apache-2.0
"""Compare a quantized program on real runtimes with its simulation, layer by layer."""
