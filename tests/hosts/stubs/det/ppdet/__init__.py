# SPDX-License-Identifier: Apache-2.0
"""As much of PaddleDetection as the tests of ``hosts`` need, written for them: the calls and
names that our code relies on.
"""
