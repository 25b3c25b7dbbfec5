# SPDX-License-Identifier: Apache-2.0
"""Quantize the demo's models, export them to every runtime, run them there, and make
the table of what came out.

    python demo/mobile/table.py  # measures what has no result file yet, then prints the table
    python demo/mobile/table.py --models ResNet-20 --bits 4
    python demo/mobile/table.py --print_only --markdown

One JSON per model, bits and target in ``results/cells``; an interrupted run goes on
where it stopped. Roundings are solved and nothing is trained unless ``--cache`` holds the model
already, for example reconstructed:

    python demo/classification/quant_post.py --model mobilenet_v1 \\
        --save_dir cache/mobile/mobilenetv1_w4a8 \\
        --config_path configs/classification/mobilenet_v1_mrecg_w4a8.yaml
"""
import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PIL import Image  # noqa: E402,F401  (before paddle: Paddle 2.6 brings its own zlib)

from demo import results, sources  # noqa: E402
from demo.mobile.cells import HEAD, TARGETS, cell_path, failures, markdown, rows, slug  # noqa: E402
from demo.mobile.workloads import WORKLOADS, batches  # noqa: E402

HERE = Path(__file__).resolve().parent
CHECKED = 2  # samples whose outputs are compared


def quantized(name: str, bits: int, cache: Path) -> Path:
    """Directory of the quantized model, made when missing."""
    folder = cache / f"{slug(name)}_w{bits}a8"
    if (folder / "report.json").exists():
        return folder
    from paddle_mrecg import quant_post_mrecg
    work = WORKLOADS[name]
    feed = work.calibration(work.calibrate)
    config = dict(Global=dict(target="paddle_lite", visualdl=False, tune_cpu=True,
                              measure_speed=False),
                  Data=dict(num_samples=work.calibrate, batch_size=work.batch_size),
                  QuantPost=dict(weight_bits=bits, activation_bits=8),
                  MRECG=dict(preset="none"))
    quant_post_mrecg(work.model_dir(), batches(feed, work.batch_size), config, save_dir=str(folder))
    return folder


def measure(name: str, bits: int, cache: Path):
    """Cells of one model: target -> dict."""
    from paddle_mrecg.deploy.check.doctor import check
    from paddle_mrecg.graph.load import load_graph
    folder, work = quantized(name, bits, cache), WORKLOADS[name]
    graph = load_graph(str(folder), allow_quantized=True)
    count = 1 if len(graph.inputs) > 1 else CHECKED
    report = check(graph, work.calibration(count), seconds=600)
    made = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    sizes = {name: made["sizes"][name] for name in ("float_file", "quantized_file")}
    sizes["codes"] = {name: size for name, size in made["sizes"]["codes"].items()
                      if name != "entropy_bits"}
    common = dict(rounding=_rounding(made), jitter=report.jitter, sizes=sizes)
    found = {r.runtime: r for r in report.runtimes}
    cells = {"Lite ARM": dict(common, **_arm(graph, report))}
    for target, runtime in TARGETS.items():
        if runtime:
            cells[target] = dict(common, **_run_cell(found[runtime]),
                                 **_score(work, graph, runtime, found[runtime]))
    cells["Lite x86"].update(_x86(graph))
    with tempfile.TemporaryDirectory() as place:
        cells["Paddle Inference"].update(_latency("inference",
                                                  _old_program(work.model_dir(), place), folder,
                                                  work))
    cells["ONNX"].update(_onnx(graph, work, cells["ONNX"]))
    return cells


def _rounding(report) -> str:
    settings = report["config"]["MRECG"]
    if settings["num_iters"]:
        return f"MRECG, {settings['granularity']}"
    return "solved" if report["config"]["QuantPost"].get("rounding") == "solve" else "nearest"


def _run_cell(found):
    return dict(accepted=found.status not in ("failed", "absent"), status=found.status,
                reason=found.why,
                max_abs_diff=found.max_abs_diff, mean_abs_diff=found.mean_abs_diff,
                worst_layer=found.worst_layer,
                findings=[dict(layer=f.name, op=f.op, relative=f.relative, cause=f.cause,
                               x86_only=f.x86_only)
                          for f in found.findings])


def _arm(graph, report):
    from paddle_mrecg.errors import MrecgError
    from paddle_mrecg.deploy.lite.convert import convert
    from paddle_mrecg.deploy.lite.env import find_lite
    try:
        model = convert(graph, find_lite(), "arm")
    except MrecgError as error:
        return dict(accepted=False, status="absent" if "lite-env" in str(error) else "failed",
                    reason=str(error))
    return dict(accepted=True, status="converted, not run: no ARM device", reason="",
                int8_ops=model.int8, ops=len(model.rows),
                bytes=len(model.data), changes=model.changes,
                float_ops={row.weight: row.why for row in report.lite_ops if not row.int8})


def _x86(graph):
    from paddle_mrecg.errors import MrecgError
    from paddle_mrecg.deploy.lite.convert import convert
    from paddle_mrecg.deploy.lite.env import find_lite
    try:
        model = convert(graph, find_lite(), "x86")
    except MrecgError:
        return {}
    return dict(int8_ops=model.int8, ops=len(model.rows), bytes=len(model.data),
                changes=model.changes)


def _score(work, graph, runtime, found):
    """The task's metric on the runtime itself, and of the float model in Paddle Inference."""
    from paddle_mrecg.deploy.check.runtimes import RUNTIMES
    from paddle_mrecg.graph.load import load_graph
    if not work.evaluation or found.status in ("failed", "absent"):
        return dict(metric=None)
    feed, score = work.evaluation(work.samples)
    outcome = RUNTIMES[runtime](graph, feed, 600)
    if outcome.outputs is None:
        return dict(metric=None, metric_failure=outcome.failure)
    scored = dict(metric=score([outcome.outputs[n] for n in graph.outputs]),
                  metric_name=work.metric, metric_samples=work.samples)
    if runtime == "inference":
        plain = load_graph(work.model_dir())
        base = RUNTIMES[runtime](plain, feed, 600)
        scored["metric_float"] = (score([base.outputs[n] for n in plain.outputs]) if base.outputs
                                  else None)
    return scored


def _old_program(model_dir, place):
    """A float model as .pdmodel: Paddle 3.3.1 crashes when oneDNN reads some
    that Paddle 3 wrote (.json).
    """
    from paddle_mrecg.graph.load import load_graph
    from paddle_mrecg.graph.writer import save_program
    if any(Path(model_dir).glob("*.pdmodel")):
        return model_dir
    save_program(load_graph(model_dir), f"{place}/float")
    return place


def _latency(runtime, float_model, int8_model, work):
    """Float against int8 by ``latency.py`` in a process of its own; int8 ops as
    Paddle's log counts them.
    """
    command = [sys.executable, "-W", "ignore", str(HERE / "latency.py"), "--runtime", runtime,
               "--float_model", str(float_model),
               "--int8_model", str(int8_model), "--json", "--cpu_time", "--repeats", "15"]
    command += [word for shape in work.shapes for word in ("--shape", ",".join(map(str, shape)))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600,
                              errors="replace")
        times = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return dict(latency=None, latency_failure="latency.py did not finish in 600 s")
    except (ValueError, IndexError):
        return dict(latency=None, latency_failure=_last_words(done.stderr))
    counted = [int(n)
               for n in re.findall(r"quantized (\d+) (?:fused_conv2d|conv2d|fc|matmul)\w* ops",
                                   done.stdout + done.stderr)]
    return dict(latency=times, **(dict(int8_ops=sum(counted)) if counted else {}))


def _last_words(log):
    """What a Paddle traceback says in the end; the operator's name is on the last
    line, the complaint before it.
    """
    lines = [line.strip() for line in log.splitlines() if "Error" in line or "error]" in line]
    return " ".join(lines[-2:])[-400:] or "no message"


def _onnx(graph, work, cell):
    """Size, speed and int8 kernels in onnxruntime."""
    from paddle_mrecg.errors import MrecgError
    from paddle_mrecg.deploy.to_onnx import onnx_model
    from paddle_mrecg.graph.load import load_graph
    if not cell["accepted"]:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{k}.onnx") for k in ("float", "int8", "optimized")]
        try:
            models = [onnx_model(load_graph(work.model_dir())), onnx_model(graph)]
        except MrecgError as error:
            return dict(latency=None, latency_failure=str(error))
        for path, model in zip(paths, models):
            Path(path).write_bytes(model.SerializeToString())
        return dict(_latency("onnxruntime", *paths[:2], work), **_int8_nodes(*paths[1:]),
                    bytes=Path(paths[1]).stat().st_size)


def _int8_nodes(path, optimized):
    import onnx
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = optimized
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(optimized).graph.node]
    return dict(int8_ops=sum(k in ("QLinearConv", "QLinearMatMul", "MatMulIntegerToFloat", "QGemm")
                             for k in kinds))


def measure_missing(args):
    """Measure every model that lacks a cell; returns whether one was written."""
    new = False
    for name in args.models:
        for bits in args.bits:
            paths = {target: cell_path(args.results, name, bits, target) for target in TARGETS}
            if all(path.exists() for path in paths.values()):
                continue
            start = time.perf_counter()
            try:
                cells = measure(name, bits, args.cache)
            except sources.Absent as error:
                print(f"skipped {name}: {error}")
                break
            for target, path in paths.items():
                # not a finding about the model: measure again with the tools there
                if cells[target]["status"] == "absent":
                    print(f"not measured: {name} on {target}: {cells[target]['reason']}")
                    continue
                record = results.run_record(dict(model=name, bits=f"W{bits}A8", target=target), 0,
                                            {}, **cells[target])
                results.save_results(path, results.command_line("demo/mobile/table.py", []),
                                     [record])
                new = True
            print(f"{name} W{bits}A8: {time.perf_counter() - start:.0f} s", flush=True)
    return new


def print_table(args):
    """All rows, aligned or as Markdown."""
    if args.markdown:
        print(markdown(args.results))
        return
    files = results.load_cells(args.results)
    table = [HEAD, *rows(files)]
    widths = [max(len(row[k]) for row in table) for k in range(len(HEAD))]
    print("\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
                    for row in table))
    print("\n".join(failures(files)))


@sources.explained
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--bits", nargs="+", type=int, default=[8, 4])
    parser.add_argument("--cache", type=Path, default=Path("cache/mobile"), help="quantized models")
    parser.add_argument("--results", type=Path, default=HERE / "results/cells")
    parser.add_argument("--print_only", action="store_true", help="measure nothing")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args(argv)
    if not args.print_only and not measure_missing(args):
        print(results.NOTHING_NEW)
    print_table(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
