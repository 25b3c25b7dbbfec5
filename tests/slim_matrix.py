# SPDX-License-Identifier: Apache-2.0
"""What works where: runs every example of ``slim_examples`` and keeps the
outcome per Paddle version.

    # run here, note the outcome in tests/slim/matrix.json, print the table
    python -m tests.slim_matrix
    python -m tests.slim_matrix --table    # only print the table
"""
import contextlib
import json
import os
import sys
import tempfile
import types
import zlib  # noqa: F401  before Paddle, see paddle_mrecg/__init__.py
from pathlib import Path

PATH = Path(__file__).resolve().parent / "slim" / "matrix.json"
WORKS = "works"
NEEDS_OLD_IR = ("quant.quant_aware + convert",)
NOTE = "works, with FLAGS_enable_pir_api=0"


def run(api, function):
    """``works``, or the sentence with which it was refused; anything else is an exception."""
    import paddle
    import paddle_mrecg
    from paddle_mrecg.compat import old_ir
    from tests.slim_nets import SHAPE, StaticNet, TinyNet, images
    old = api in NEEDS_OLD_IR
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        os.chdir(folder)  # PaddleSlim writes into the working directory
        stack.callback(os.chdir, here)
        stack.callback(paddle_mrecg.unregister)
        stack.callback(paddle.disable_static)
        paddle.seed(0)
        spec = [paddle.static.InputSpec([None, *SHAPE], "float32", "x")]
        c = types.SimpleNamespace(net=TinyNet(), spec=spec, out=os.path.join(folder, "out"),
                                  model_dir=os.path.join(folder, "float"),
                                  batches=[{"x": images(8, k)} for k in range(2)])
        net = TinyNet()
        with old_ir():
            paddle.jit.save(net, os.path.join(c.model_dir, "model"), spec)
        if old:
            paddle.enable_static()
            stack.enter_context(old_ir())
            c.static = StaticNet(paddle.static.Executor(paddle.CPUPlace()))
        try:
            function(c)
        except paddle_mrecg.MrecgError as error:
            return str(error)
    return NOTE if old and paddle.__version__ >= "3" else WORKS


def recorded():
    """Paddle version -> API -> strategy -> outcome."""
    return json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}


def table(results) -> str:
    """The matrix as Markdown; sentences become footnotes."""
    versions, notes = sorted(results), []
    lines = ["| API | strategy | " + " | ".join(f"Paddle {v}" for v in versions) + " |",
             "| --- | --- |" + " --- |" * len(versions)]
    for api, strategies in results[versions[-1]].items():
        for strategy in strategies:
            cells = []
            for version in versions:
                outcome = results[version].get(api, {}).get(strategy, "not run")
                if outcome.startswith(WORKS) or outcome == "not run":
                    cells.append(outcome)
                else:
                    notes += [outcome] if outcome not in notes else []
                    cells.append(f"says so [{notes.index(outcome) + 1}]")
            lines.append(f"| `{api}` | {strategy} | " + " | ".join(cells) + " |")
    return "\n".join(lines + [""] + [f"[{k}] {note}" for k, note in enumerate(notes, 1)]).rstrip()


def main():
    if "--table" not in sys.argv[1:]:
        import PIL.Image  # noqa: F401
        import paddle
        from tests.slim_examples import EXAMPLES
        results = recorded()
        mine = results[paddle.__version__] = {}
        for (api, strategy), function in EXAMPLES.items():
            mine.setdefault(api, {})[strategy] = run(api, function)
        PATH.write_text(json.dumps(results, indent=1, sort_keys=False) + "\n", encoding="utf-8")
    print(table(recorded()))


if __name__ == "__main__":
    main()
