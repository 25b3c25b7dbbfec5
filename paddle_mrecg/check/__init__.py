# SPDX-License-Identifier: Apache-2.0
"""Does a quantised model compute on real runtimes what was simulated? If not: where, and why."""
