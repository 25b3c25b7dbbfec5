# SPDX-License-Identifier: Apache-2.0
"""Job 3, deployment: the QDQ program that both jobs end in, on runtimes, and checked there."""
