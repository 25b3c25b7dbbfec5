# SPDX-License-Identifier: Apache-2.0
"""Time a float and an int8 model against each other on this machine.

    python demo/mobile/latency.py --runtime inference --float_model inference_model \\
        --int8_model output/w8a8
    python demo/mobile/latency.py --runtime onnxruntime --float_model float.onnx \\
        --int8_model output/w8a8/onnx/model.onnx --shape 1,3,224,224

The code is ``paddle_mrecg/deploy/timing.py``, which stands alone: to measure on a device, copy
that file.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from paddle_mrecg.deploy.timing import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
