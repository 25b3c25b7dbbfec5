# SPDX-License-Identifier: Apache-2.0
"""Tables of kills, fuzzers and memory."""
from demo import robustness
from demo.results import run_record, save_results


def saved(tmp_path, *runs):
    return save_results(tmp_path / "x.json", "python x.py", list(runs))


def test_without_results_the_tables_say_so(tmp_path):
    for table in (robustness.kills, robustness.fuzz, robustness.memory, robustness.memory_slim):
        assert table(tmp_path / "absent.json") == robustness.NOT_YET


def test_kills_and_faults_are_told(tmp_path):
    found = dict({name: 0 for name in robustness.FAULTS}, kills=5, jobs=4, hung=1, refused=2)
    path = saved(tmp_path, run_record(dict(phase="read"), 0, dict(kills=2)),
                 run_record(dict(phase="publish"), 0, dict(kills=3)),
                 run_record(dict(phase="all"), 0, found, restored=7, fresh_jobs=1))
    table = robustness.kills(path)
    assert "| killed in | read | publish | all |" in table and "| kills | 2 | 3 | 5 |" in table
    assert "units lost: 0, results lost: 0" in table and "other faults: 3." in table


def test_fuzzers_and_memory_have_a_row_each(tmp_path):
    path = saved(tmp_path, run_record(dict(what="configs"), 0,
                                      dict(number=5000, failures=0, seconds=61.2)))
    assert "| configs | 5,000 | 0 | 61 |" in robustness.fuzz(path)
    setting = dict(model="net", samples="64", memory_limit_mb="1024", cache_dtype="float16")
    measured = dict(predicted=900.0, measured=1000.0, files=12.0, error=-10.0, output_error=0.1234)
    table = robustness.memory(saved(tmp_path, run_record(setting, 0, measured)))
    assert "| net | 64 | 1024 | float16 | 900 | 1000 | -10.0 % | 12 | 0.123 % |" in table
    path = saved(tmp_path, run_record(dict(model="net", way="hist", samples="32"), 0,
                                      dict(peak=1059.4, before=339.0, seconds=60.0)))
    assert "| net | 32 | hist | 1059 | 339 |" in robustness.memory_slim(path)
