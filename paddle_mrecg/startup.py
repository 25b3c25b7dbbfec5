# SPDX-License-Identifier: Apache-2.0
"""What a process of ours does before Paddle is imported, which is too late afterwards."""
import contextlib
import os
import sys
import tempfile

from .compat import tune_cpu
from .errors import MrecgError


def import_paddle(tune: bool = True):
    """Import Paddle into a fresh process: tuned, and without the noise of
    libraries built for another numpy.

    Args:
        tune(bool, optional): see ``compat.tune_cpu``. Default: True.

    Raises:
        MrecgError: Paddle is not installed, or does not fit the other packages.
    """
    tune_cpu(tune)
    os.environ.setdefault("GLOG_minloglevel", "2")
    import PIL.Image  # noqa: F401  before Paddle 2.6, which brings its own zlib
    try:
        with _held_back_stderr():
            import paddle  # noqa: F401
    except ModuleNotFoundError as error:
        raise MrecgError(f"no module named '{error.name}': install a Paddle build, e.g. `pip "
                         "install paddlepaddle==3.3.1` (or paddlepaddle-gpu, see "
                         "paddlepaddle.org.cn)") from error
    except ImportError as error:
        raise MrecgError(f"Paddle cannot be imported ({error}): Paddle 2.6 needs "
                         "`pip install 'numpy<2'`") from error


@contextlib.contextmanager
def _held_back_stderr():
    """Drop what is written to stderr, by C code too; show it after all when an exception comes out.

    Paddle tries to import OpenCV. The build that PaddleSlim pins was made for
    numpy 1 and complains on stderr under numpy 2 (Python 3.13); nothing needs it.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as text:
        os.dup2(text.fileno(), 2)
        try:
            yield
        except BaseException:
            text.seek(0)
            os.write(kept, text.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
