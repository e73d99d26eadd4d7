"""Models by name: what is no model is refused before anything runs, and what is one always loads the same."""

import json
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline_config.errors import ArtifactError, ConfigError, ModelError
from tasks.kernels import conversion, models
from tasks.kernels.assets import ASSETS, asset_file
from tasks.kernels.models import check_model, load_causal, load_tokenizer, model_digest, model_folder
from tests.toy_model import make_toy_model

SMOLLM = "asset:smollm2-135m-instruct"


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def copy(toy, tmp_path) -> Path:
    return Path(shutil.copytree(toy, tmp_path / "copy"))


def refusal(name, kind="causal") -> ModelError:
    with pytest.raises(ModelError) as caught:
        check_model(str(name), kind, place="train.model")
    assert caught.value.exit_code == 2
    assert caught.value.place == "train.model"
    assert caught.value.cure
    return caught.value


def test_a_model_folder_passes_and_loads_without_a_word(toy, capfd):
    check_model(str(toy), "causal")
    check_model(str(toy), "encoder")
    tokenizer = load_tokenizer(str(toy))
    model = load_causal(str(toy), "bfloat16")
    assert (str(model.dtype), model.training) == ("torch.bfloat16", False)
    assert tokenizer.chat_template
    assert capfd.readouterr() == ("", "")


def test_packaged_models_pass_as_what_they_are():
    check_model(SMOLLM, "causal")
    check_model("asset:all-minilm-l6-v2", "encoder")
    with pytest.raises(ConfigError, match="a sentence encoder, not a language model"):
        check_model("asset:all-minilm-l6-v2", "causal")


def test_checking_and_digesting_import_no_heavy_library(toy, tmp_path):
    check = (
        "import sys; from pathlib import Path; from tasks.kernels.models import check_model, model_digest\n"
        f"for name in ({str(toy)!r}, {SMOLLM!r}):\n"
        f"    check_model(name, 'causal'); model_digest(name, Path({str(tmp_path)!r}))\n"
        "heavy = {'torch', 'transformers', 'polars', 'numpy', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_a_missing_folder_names_the_nearest(toy):
    assert f"did you mean {toy}?" in refusal(toy.with_name(toy.name + "x")).cure
    assert "no folder" in refusal("./no/such/place").cure
    assert "there is no model folder" in refusal("models/mine/final").message  # two slashes: no hub name


@pytest.mark.parametrize(
    ("lacking", "message"),
    [("config.json", "no config.json"), ("model.safetensors", "no weights"), ("tokenizer.json", "no tokenizer")],
)
def test_a_folder_that_lacks_a_part_says_which(copy, lacking, message):
    (copy / lacking).unlink()
    assert message in refusal(copy).message


def test_pickled_weights_are_refused_with_the_way_to_convert_them(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    error = refusal(copy)
    assert "run code" in error.message
    assert "save_pretrained" in error.cure


def test_an_adapter_is_no_whole_model(copy):
    (copy / "config.json").rename(copy / "adapter_config.json")
    error = refusal(copy)
    assert "adapter" in error.message
    assert "merge" in error.cure


def test_a_gguf_file_says_how_to_convert_it(tmp_path):
    (tmp_path / "model.Q4.gguf").touch()
    assert "gguf_file='model.Q4.gguf'" in refusal(tmp_path).cure
    assert "gguf_file='model.Q4.gguf'" in refusal(tmp_path / "model.Q4.gguf").cure


def test_an_encoder_generates_no_text_and_passes_as_an_encoder():
    folder = asset_file(ASSETS["all-minilm-l6-v2"]).parent
    assert "BertModel" in refusal(folder).message
    check_model(str(folder), "encoder")


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_configuration_is_named(copy, text):
    (copy / "config.json").write_text(text)
    assert str(copy / "config.json") in refusal(copy).message


def test_truncated_weights_and_pointer_files_are_found_from_their_header(copy):
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    assert "damaged" in refusal(copy).message
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    assert "no safetensors file" in refusal(copy).message
    weights.write_bytes(b"")
    assert "no safetensors file" in refusal(copy).message
    weights.write_bytes(struct.pack("<Q", 2) + b"[]")
    assert "no safetensors file" in refusal(copy).message


def test_every_shard_must_be_there(copy):
    (copy / "model.safetensors").rename(copy / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks 1 of 2 weight files: model-2.safetensors" in refusal(copy).message
    shutil.copy(copy / "model-1.safetensors", copy / "model-2.safetensors")
    check_model(str(copy), "causal")


def test_missing_weights_are_refused_rather_than_drawn_at_random(copy):
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    lost = next(name for name in tensors if "layers.1.mlp" in name)
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, copy / "model.safetensors")
    check_model(str(copy), "causal")
    with pytest.raises(ModelError, match="lacks 1 weights of its architecture") as caught:
        load_causal(str(copy), "float32")
    assert lost in caught.value.message


def test_what_transformers_refuses_is_an_error_of_ours(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "unheard-of"}))
    with pytest.raises(ModelError, match="can't be loaded"):
        load_causal(str(copy), "float32")
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="the tokenizer in"):
        load_tokenizer(str(copy))


def test_the_digest_is_of_contents_that_shape_output(toy, copy, tmp_path):
    digest = model_digest(str(toy), tmp_path)
    assert model_digest(str(copy), tmp_path) == digest  # another path
    (copy / "README.md").write_text("notes")
    assert model_digest(str(copy), tmp_path) == digest
    template = copy / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    changed = model_digest(str(copy), tmp_path)
    assert changed != digest
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert model_digest(str(copy), tmp_path) not in (digest, changed)


def test_a_relative_folder_becomes_absolute(copy, monkeypatch, tmp_path):
    monkeypatch.chdir(copy.parent)
    assert model_folder("./copy", tmp_path) == str(copy.resolve())


@pytest.fixture
def hub_cache(toy, tmp_path, monkeypatch) -> Path:
    """A hub cache that holds `team/toy` at one commit."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--team--toy"
    shutil.copytree(toy, folder / "snapshots" / "c0ffee")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("c0ffee")
    return folder


def test_a_cached_hub_model_needs_no_network_and_is_its_commit(hub_cache, tmp_path):
    check_model("team/toy", "causal")
    assert model_folder("team/toy", tmp_path) == str(hub_cache / "snapshots" / "c0ffee")
    digest = model_digest("team/toy", tmp_path)
    (hub_cache / "snapshots" / "c0ffee").rename(hub_cache / "snapshots" / "decaf")
    (hub_cache / "refs" / "main").write_text("decaf")
    assert model_digest("team/toy", tmp_path) != digest


def test_a_hub_name_that_is_not_cached_is_refused_offline(hub_cache, tmp_path):
    assert "hub can't be reached" in refusal("team/other").message  # the tests' environment says offline
    with pytest.raises(ModelError, match="hub can't be reached"):
        model_folder("team/other", tmp_path)


@pytest.mark.parametrize(
    ("kind", "place", "advised"),
    [
        ("causal", "model", "causal"),
        ("encoder", "select.encoder", "encoder"),
        ("classifier", "quality.classifier.model", ""),
        ("encoder", "augment.masked_model", ""),
    ],
)
def test_only_an_asset_that_would_do_is_advised(hub_cache, kind, place, advised):
    with pytest.raises(ModelError, match="hub can't be reached") as caught:
        check_model("team/other", kind, place=place)
    named = [asset.kind for asset in ASSETS.values() if f"asset:{asset.name}" in caught.value.cure]
    assert named == ([advised] if advised else [])


@pytest.fixture
def hub(hub_cache, monkeypatch):
    """What the hub answers, as a function of the files and architectures it says it has."""
    import huggingface_hub

    def answer(files, architectures=("LlamaForCausalLM",)):
        info = SimpleNamespace(
            sha="beef",
            siblings=[SimpleNamespace(rfilename=name) for name in files],
            config={"architectures": list(architectures)},
        )
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, name, timeout: info)

    return answer


def test_a_published_model_is_judged_by_its_file_list(hub, tmp_path):
    hub(["config.json", "model.safetensors", "tokenizer.json"])
    check_model("team/other", "causal")
    assert len(model_digest("team/other", tmp_path)) == 64
    hub(["config.json", "pytorch_model.bin", "tokenizer.json"])
    assert "pickled" in refusal("team/other").message
    hub(["config.json", "model.safetensors", "tokenizer.json"], ["BertModel"])
    assert "generates no text" in refusal("team/other").message


SLUG = "thing"


@pytest.fixture
def gguf(tmp_path) -> Path:
    path = tmp_path / "thing.gguf"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def writes(monkeypatch) -> list[Path]:
    """Stands in for transformers: writes two small files, and notes each call."""
    calls: list[Path] = []

    def write(gguf: Path, folder: Path) -> None:
        calls.append(folder)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(conversion, "_write_model", write)
    return calls


def test_processes_that_want_one_model_convert_it_once(gguf, writes, tmp_path):
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(conversion.converted_folder(gguf, SLUG, tmp_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(writes) == 1
    assert len(set(found)) == 1
    assert (found[0] / "model.safetensors").read_bytes() == b"weights"


def test_a_damaged_or_killed_conversion_is_done_again(gguf, writes, tmp_path):
    folder = conversion.converted_folder(gguf, SLUG, tmp_path)
    left_over = folder.with_name(f".{folder.name}.tmp")
    left_over.mkdir()
    (left_over / "half").touch()
    (folder / "model.safetensors").write_bytes(b"weighty")
    assert conversion.converted_folder(gguf, SLUG, tmp_path) == folder
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert not left_over.exists()
    assert len(writes) == 2


def test_another_packaged_file_gets_another_folder(gguf, writes, tmp_path):
    folder = conversion.converted_folder(gguf, SLUG, tmp_path)
    gguf.write_bytes(b"others!")
    assert conversion.converted_folder(gguf, SLUG, tmp_path) != folder


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), RuntimeError("I/O error")])
def test_a_full_disk_leaves_nothing_behind(gguf, writes, tmp_path, monkeypatch, failure):
    def fail(gguf: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise failure

    monkeypatch.setattr(conversion, "_write_model", fail)
    with pytest.raises(ArtifactError, match=r"thing\.gguf can't be converted") as caught:
        conversion.converted_folder(gguf, SLUG, tmp_path)
    assert "free" in caught.value.cure
    assert [path.suffix for path in (tmp_path / "models").iterdir()] == [".lock"]


@pytest.fixture(scope="module")
def smollm(tmp_path_factory) -> Path:
    return Path(model_folder(SMOLLM, tmp_path_factory.mktemp("data")))


@pytest.mark.model
def test_the_packaged_model_keeps_the_numbers_of_its_file(smollm):
    from gguf import GGUFReader, dequantize
    from safetensors.torch import load_file

    packed = {tensor.name: tensor for tensor in GGUFReader(asset_file(ASSETS["smollm2-135m-instruct"])).tensors}
    tensors = load_file(smollm / "model.safetensors")
    for theirs, ours in [("token_embd", "embed_tokens"), ("blk.7.ffn_down", "layers.7.mlp.down_proj")]:
        tensor = packed[f"{theirs}.weight"]
        assert np.array_equal(dequantize(tensor.data, tensor.tensor_type), tensors[f"model.{ours}.weight"].numpy())


@pytest.mark.model
def test_the_packaged_model_answers_through_its_chat_template(smollm, capfd):
    tokenizer, model = load_tokenizer(str(smollm)), load_causal(str(smollm), "float32")
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0])
    assert tokenizer.model_max_length == 8192
    assert capfd.readouterr().err == ""


@pytest.mark.model
def test_the_converted_folder_names_no_path_of_this_machine(smollm):
    for path in smollm.glob("*.json"):
        assert str(smollm.parent) not in path.read_text()
        assert "site-packages" not in path.read_text()
    assert models.model_folder(str(smollm), smollm.parent) == str(smollm)
