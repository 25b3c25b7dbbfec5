# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a config, it is read or refused in bounded time, with a ConfigError."""
import os
import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddle_mrecg.config.io import load_config, save_config
from paddle_mrecg.config.schema import all_settings
from paddle_mrecg.errors import ConfigError

EXAMPLES = int(os.environ.get("MRECG_FUZZ", "100"))  # per test; a long run takes thousands
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefghi", "bcdefghij"))
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join(['*' + a] * 10)}]}}\n" for a, b in zip("abcdefghi", "bcdefghij"))
TEXTS = {
    "bomb": BOMB, "merges": MERGES, "itself": "Global: &g {model_dir: *g}", "list": "Data: &a [*a]",
    "date": "Global: {model_dir: 2020-13-45}", "good date": "Global: {model_dir: 2020-01-02}",
    "time": "Global: {seed: 2020-01-02 99:99:99}", "digits": "Global: {seed: " + "9" * 5000 + "}",
    "hex": "Global: {seed: 0x" + "f" * 5000 + "}", "sexagesimal": "Global: {seed: 1:99999:1}",
    "deep": "[" * 2000, "deep map": "{a: " * 3000, "tag": "Global: !!python/name:os.system",
    "bool": "Global: {visualdl: !!bool maybe}", "int": "Global: {seed: !!int x}", "nul": "a: \0",
    "binary": "Global: !!binary x", "set": "Global: !!set {a}", "key": "? [a]\n: b",
    "merge": "Global: {<<: 3}", "long": "#" * (1 << 21), "escaped nul": 'Global: {save_dir: "\\0"}',
    "surrogate": 'Global: {save_dir: "\\ud800"}', "float": "Global: {seed: !!float x}",
    "seed": "Global: {seed: 4294967296}", "count": "Data: {num_samples: 100000000000000000000}",
    "sizes": "Data: {input_shape: [3, 100000000000000000000, 4]}",
}


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_texts_are_refused_in_one_sentence(name, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(TEXTS[name])
    start = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert time.monotonic() - start < 20 and len(str(caught.value)) < 2000


@pytest.mark.parametrize("path", ["a\0b", "a\ud800b", "x" * 5000])
def test_hostile_paths_are_refused(path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(path)


def test_a_value_of_thousands_of_digits_is_not_repeated():
    with pytest.raises(ConfigError, match="not valid YAML") as caught:
        load_config(None, ["Global.seed=" + "9" * 5000])
    assert len(str(caught.value)) < 200


def test_a_mapping_that_holds_itself_is_refused():
    data = {}
    data["loader_args"] = data
    with pytest.raises(ConfigError, match="holds itself"):
        load_config({"Data": data})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
    | st.integers(10**4400, 10**4401) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5)
KEYS = st.sampled_from(sorted({(s.section, s.key) for s in all_settings()
                               if s.section in ("Global", "Data", "Evaluation", "QuantPost",
                                                "MRECG")}))
FUZZ = settings(max_examples=EXAMPLES, deadline=5000,
                suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@FUZZ
@given(st.dictionaries(KEYS, VALUES, max_size=3))
def test_any_value_is_read_or_refused(tmp_path, values):
    sections = {}
    for (section, key), value in values.items():
        sections.setdefault(section, {})[key] = value
    try:
        config = load_config(sections)
    except ConfigError:
        return
    save_config(config, str(tmp_path / "saved.yaml"))
    load_config(str(tmp_path / "saved.yaml"))


@FUZZ
@given(st.text(st.sampled_from("{}[]:,-&*!?|>'\"%@`# \n\tab1.eG<=0x~"), max_size=60)
       | st.builds(lambda v: yaml.safe_dump(v, default_flow_style=True), st.recursive(
           st.integers() | st.text(max_size=5), lambda v: st.lists(v), max_leaves=5)))
def test_any_text_is_read_or_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    for source, overrides in ((str(tmp_path / "config.yaml"), ()), (None, [text]),
                              (None, ["Global.model_dir=" + text])):
        try:
            load_config(source, overrides)
        except ConfigError:
            pass
