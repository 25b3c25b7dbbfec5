# SPDX-License-Identifier: Apache-2.0
"""From a reconstructed graph to programs that runtimes read."""
