# SPDX-License-Identifier: Apache-2.0
"""Does a quantized model compute on real runtimes what was simulated? If not: where, and why."""
