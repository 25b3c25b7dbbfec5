# SPDX-License-Identifier: Apache-2.0
"""Text lines rendered on the spot with fonts of installed packages, upright or turned by 180°.

The quickstart needs labelled real-world-like input without a download. Fonts are the ones that
matplotlib ships (DejaVu, STIX, Computer Modern). Every line has its own random generator, so line
``i`` of a split and seed is the same whatever the number of lines. The two splits never share a
text: a text belongs to the split that its checksum says.
"""
import zlib
from functools import lru_cache
from typing import Dict, Iterator, Tuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from demo.ocr.crops import CLS_SIZE, accuracy, batches, preprocess
from demo.sources import package_path

SPLITS = ("calibration", "evaluation")
FONT_FILES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono",
              "DejaVuSansMono-Bold",
              "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral",
              "STIXGeneralBol",
              "STIXGeneralItalic", "cmr10", "cmss10", "cmtt10", "cmb10")
WORDS = """about account address after again airport always amount and answer april arrival avenue
bakery bank before better black blue board book bottle bread bridge brown building bus button by
call camera card center change check child church city class clean clear close coffee cold company
corner country cream customer daily danger date day delivery desk dinner door double down drive
early east email emergency empty end engine enter entrance every exit express family fast fire first
fish floor flower follow food for free fresh friday from front fruit garden gate glass gold good
green ground group hand happy head health heavy help here high home hospital hotel hour house ice in
island january keep kitchen lake large last leave left level library light line little local long
lunch machine main manager market material meeting menu middle minute monday money morning mountain
museum music name national never new night north notice number october of office oil old only open
orange order original other our out over page paper park parking part party pay people phone photo
place please point police post power press price private product public pull pull push quality queen
quick rain ready receipt red rent repair report return right river road room round safe sale
saturday school sea season second security service seven shop short side silver size slow small
smoking snow soft south special speed spring square stage star start station stop store storm street
student sugar summer sunday system table tax taxi tea team telephone test thank the theatre ticket
time to today top total tower town track traffic train travel tree turn under union unit university
up use valid valley value view village visit wait walk warm warning watch water way week welcome
west white window winter with women wood work world year yellow young your zone""".split()


@lru_cache(maxsize=None)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    folder = package_path("matplotlib", "matplotlib", "mpl-data/fonts/ttf")
    return ImageFont.truetype(str(folder / f"{name}.ttf"), size)


def random_text(rng: np.random.Generator) -> str:
    """One to three words, a number, a price, a date, a telephone
    number, or a word with a number.
    """
    def word():
        text = str(rng.choice(WORDS))
        return (text, text.capitalize(), text.upper())[rng.integers(3)]

    def digits(count):
        return "".join(str(d) for d in rng.integers(0, 10, count))
    kind = rng.integers(10)
    if kind < 6:
        return " ".join(word() for _ in range(rng.integers(1, 4)))
    if kind == 6:
        return digits(rng.integers(3, 9))
    if kind == 7:
        return f"{rng.choice(['$', 'EUR ', 'No. ', ''])}{digits(rng.integers(1, 4))}.{digits(2)}"
    if kind == 8:
        return str(rng.choice(["/", "-", ":"])).join((digits(2), digits(2), digits(4)))
    return f"{word()}{rng.choice([' ', '-', ': ', ', '])}{digits(rng.integers(1, 5))}"


def split_text(rng: np.random.Generator, split: str) -> str:
    """A random text whose checksum assigns it to ``split``."""
    while True:
        text = random_text(rng)
        if zlib.crc32(text.lower().encode()) % len(SPLITS) == SPLITS.index(split):
            return text


def _background(rng: np.random.Generator, size: Tuple[int, int], colour: np.ndarray,
                contrast: float) -> Image.Image:
    """A flat colour, a gradient, or soft blotches around ``colour``, weaker
    than the ink's ``contrast``.
    """
    kind = rng.integers(3)
    spread = rng.uniform(0.1, 0.5) * contrast
    if kind == 0:
        low = np.zeros((1, 1, 3))
    elif kind == 1:
        low = (np.linspace(-spread, spread, 8)[None, :, None] * rng.choice([-1, 1])
               * np.ones((1, 8, 3)))
    else:
        low = rng.normal(0, spread / 2, (3, 10, 3))
    pixels = np.clip(colour + low, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize(size, Image.BICUBIC)


def render_line(text: str, rng: np.random.Generator) -> Image.Image:
    """An upright crop of ``text`` as a text detector would cut it: tight,
    tilted a little, and degraded.
    """
    size = int(rng.integers(18, 44))
    font = _font(str(rng.choice(FONT_FILES)), size)
    left, top, right, bottom = font.getbbox(text)
    margin_x, margin_y = (int(size * rng.uniform(0.05, 0.5)), int(size * rng.uniform(0.05, 0.3)))
    width, height = right - left + 2 * margin_x, bottom - top + 2 * margin_y
    paper = rng.uniform(0, 255, 3)
    contrast = rng.uniform(50, 160)
    ink = np.clip(paper + contrast * (-1 if paper.mean() > 127 else 1) + rng.normal(0, 12, 3), 0,
                  255)
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).text((margin_x - left, margin_y - top), text, fill=255, font=font)
    mask = mask.rotate(rng.uniform(-4, 4), Image.BICUBIC)
    image = Image.composite(Image.new("RGB", mask.size, tuple(int(c) for c in ink)),
                            _background(rng, mask.size, paper, contrast), mask)
    shrink = rng.uniform(0.35, 1.0)  # resolution lost in the camera
    image = image.resize((max(4, int(width * shrink)), max(8, int(height * shrink))),
                         Image.BILINEAR)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2)))
    pixels = np.asarray(image, np.float32)
    pixels = pixels + rng.normal(0, rng.uniform(0, 0.15) * contrast, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def line(split: str, seed: int, index: int) -> Tuple[Image.Image, int, str]:
    """Line ``index``: the crop, its label (0 upright, 1 turned by 180°;
    they alternate) and its text.
    """
    rng = np.random.default_rng((SPLITS.index(split), seed, index))
    text = split_text(rng, split)
    image = render_line(text, rng)
    label = index % 2
    return image.transpose(Image.ROTATE_180) if label else image, label, text


def rendered_set(split: str, num_samples: int, seed: int) -> Tuple[np.ndarray, np.ndarray]:
    """``num_samples`` lines as network input.

    Args:
        split(str): ``calibration`` or ``evaluation``.
        num_samples(int): number of lines, half of them turned.
        seed(int): seed of texts and looks.

    Returns:
        tuple: float32 [N, 3, 48, 192] in [-1, 1], and int64 [N] labels.
    """
    lines = [line(split, seed, index)[:2] for index in range(num_samples)]
    return (np.stack([preprocess(image, CLS_SIZE) for image, _ in lines]),
            np.array([label for _, label in lines]))


def calibration(num_samples: int = 512, seed: int = 1000,
                batch_size: int = 32) -> Iterator[np.ndarray]:
    """Unlabelled calibration batches; for ``Data.loader``."""
    return batches(rendered_set("calibration", num_samples, seed)[0], batch_size)


def evaluate(predict, num_samples: int = 2000, seed: int = 0) -> Dict[str, float]:
    """Accuracy in percent on held-out lines; for ``Evaluation.evaluator``.

    Args:
        predict(callable): array [B, 3, 48, 192] -> list of outputs.
        num_samples(int, optional): held-out lines. Default: 2000.
        seed(int, optional): seed of texts and looks. Default: 0.
    """
    return {"direction accuracy": accuracy(predict, *_evaluation_set(num_samples, seed))}


@lru_cache(maxsize=1)  # float, nearest and quantized programs are scored on the same lines
def _evaluation_set(num_samples: int, seed: int) -> Tuple[np.ndarray, np.ndarray]:
    return rendered_set("evaluation", num_samples, seed)
