# SPDX-License-Identifier: Apache-2.0
"""Everything that is specific to a Paddle version, private in Paddle, or specific to a platform."""
import contextlib
import ctypes
import functools
import importlib
import os
import sys
import tempfile
import warnings

from .errors import MrecgError

# glibc's mallopt parameters (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_KEEP_FREE_BYTES = 2**31 - 1  # the largest value that mallopt's int takes
_TOP_PAD_BYTES = 64 << 20
_tuned = None
SCALAR_LIST = 17  # an attribute's type in framework.proto


def paddle_version() -> str:
    """The installed Paddle's version, e.g. ``3.3.1``."""
    import paddle
    return paddle.__version__


@contextlib.contextmanager
def interruptible():
    """Within this context Ctrl-C is a KeyboardInterrupt in a PyLayer's backward pass too, where
    Paddle makes an error of its own of it.
    """
    try:
        yield
    except Exception as error:
        if "KeyboardInterrupt" in str(error):
            raise KeyboardInterrupt from error
        raise


@contextlib.contextmanager
def old_ir():
    """Run static-graph code on ProgramDesc, which is the only form on
    Paddle 2.x and optional on 3.x.
    """
    import paddle
    guard = getattr(getattr(paddle, "pir_utils", None), "OldIrGuard", None)
    with guard() if guard else contextlib.nullcontext():
        yield


def full_precision():
    """Within this context operations keep float32, under ``paddle.amp.auto_cast`` too; nothing
    is entered where it is not on, which saves 20 to 40 microseconds each time.
    """
    import paddle
    tracer = paddle.base.framework._dygraph_tracer()
    if tracer is not None and tracer._amp_level == paddle.base.core.AmpLevel.O0:
        return contextlib.nullcontext()
    return paddle.amp.auto_cast(enable=False)


def run_eagerly(forward):
    """``forward`` is left alone by ``paddle.jit.to_static``'s default way, which translates the
    bytecode of every function that is called, and cannot that of ours.
    """
    import paddle
    switch = paddle.framework.core.set_eval_frame  # what it cannot translate it calls

    @functools.wraps(forward)
    def eager(*args, **kwargs):
        before = switch(None)
        try:
            return forward(*args, **kwargs)
        finally:
            switch(before)
    return eager


def has_static_forward(layer) -> bool:
    """``paddle.jit.to_static`` was called on the layer, or decorates its ``forward``."""
    from paddle.jit.dy2static.program_translator import StaticFunction
    return isinstance(layer.forward, StaticFunction)


@contextlib.contextmanager
def static_mode():
    """Build and run programs inside an eager program."""
    import paddle
    if not paddle.in_dynamic_mode():
        yield
        return
    paddle.enable_static()
    try:
        yield
    finally:
        paddle.disable_static()


def forget_traces() -> None:
    """Clear what Paddle notes while it traces a layer. A trace that fails leaves its parameters
    there under the address of its program; a later program at that address would inherit them,
    and ``paddle.jit.save`` would stop with a KeyError or crash.
    """
    try:
        noted = importlib.import_module("paddle.jit.dy2static.parameter_recorder")
    except ModuleNotFoundError:  # Paddle 2.6, whose exporter notes nothing
        return
    for holder in (noted._global_parameter_recorder, noted._global_inplace_map):
        for table in vars(holder).values():
            table.clear()


@contextlib.contextmanager
def static_values_shared():
    """Within this context ``copy.deepcopy`` hands on the values of a static graph, which cannot be
    copied: a network that keeps a tensor keeps such a value once it has been traced.
    """
    import paddle
    from paddle.base.libpaddle import pir
    classes = [paddle.static.Variable, pir.Value]
    before = [vars(cls).get("__deepcopy__") for cls in classes]
    for cls in classes:
        cls.__deepcopy__ = lambda self, memo: self
    try:
        yield
    finally:
        for cls, method in zip(classes, before):
            if method is None:
                del cls.__deepcopy__
            else:
                cls.__deepcopy__ = method


def framework_pb2():
    """Paddle's protobuf module of ProgramDesc; protobuf's version warnings are silenced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("paddle.base.proto.framework_pb2")


def op_proto(op_type):
    """The registered description (slots, attribute types) of an op, or None
    when Paddle does not know it.
    """
    from paddle.base.framework import OpProtoHolder
    holder = OpProtoHolder.instance()
    return holder.get_op_proto(op_type) if holder.has_op_proto(op_type) else None


@functools.lru_cache(maxsize=None)
def default_attrs(op_type: str) -> dict:
    """Attributes of an op that Paddle fills in where a program leaves them out, as
    PIR does; not to be changed.
    """
    from paddle.base import core
    return {name: value for name, value in core.get_op_attrs_default_value(op_type.encode()).items()
            if not name.startswith("op_") and name != "with_quant_attr"}


@functools.lru_cache(maxsize=None)
def op_versions() -> dict:
    """Versions of the ops that have changed since Paddle's first release; not to be changed."""
    from paddle.base import core
    return {name: int(v.version_id()) for name, v in core.get_op_version_map().items()}


def tune_cpu(enabled=True) -> dict:
    """Apply the two start-up settings that make training on a CPU about twice as fast.

    glibc hands every large activation back to the kernel and page-faults it in
    again at the next op; keeping freed memory cures that. Paddle's bundled MKL
    takes a slow path on AMD unless told otherwise before its first matrix
    product. Call this before Paddle computes anything; later calls change nothing.

    Args:
        enabled(bool, optional): False leaves the process as it is. Default: True.

    Returns:
        dict: what was applied: ``mallopt`` (bool) and ``mkl_debug_cpu_type`` (str
            or None), for the report.
    """
    global _tuned
    if not enabled:
        return {"mallopt": False, "mkl_debug_cpu_type": None}
    if _tuned is None:
        _tuned = {"mallopt": _keep_freed_memory(), "mkl_debug_cpu_type": _fast_mkl_on_amd()}
    return dict(_tuned)


def _keep_freed_memory() -> bool:
    """Serve large blocks from the heap and never trim it; False where
    the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # absent from musl, whose allocator has no such settings
        settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEEP_FREE_BYTES),
                    (_M_TOP_PAD, _TOP_PAD_BYTES))
        return all([libc.mallopt(parameter, value) == 1 for parameter, value in settings])
    except (OSError, AttributeError):
        return False


def _fast_mkl_on_amd():
    """Set MKL_DEBUG_CPU_TYPE=5 on AMD; MKL reads it at its first product. A
    value set by the user stays.
    """
    if "MKL_DEBUG_CPU_TYPE" in os.environ:
        return os.environ["MKL_DEBUG_CPU_TYPE"]
    if not _is_amd():
        return None
    os.environ["MKL_DEBUG_CPU_TYPE"] = "5"
    return "5"


def _is_amd() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="ignore") as lines:
            return any("AuthenticAMD" in line for line in lines)
    except OSError:
        return False


def seed_everything(seed: int):
    """Seed the global generators of numpy and Paddle; this package seeds its own elsewhere."""
    import numpy as np
    import paddle
    np.random.seed(seed)
    paddle.seed(seed)


def import_paddle(tune: bool = True):
    """Import Paddle into a fresh process: tuned, and without the noise of
    libraries built for another numpy.

    Args:
        tune(bool, optional): see ``tune_cpu``. Default: True.

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
