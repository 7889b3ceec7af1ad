"""From where models come, and what is said of those that do not fit."""

import json
import shutil

import numpy as np
import pytest
import torch
from tiny_tasks import case_of, predict_of

from pytest_perfq import registry
from pytest_perfq.contracts import Resources
from pytest_perfq.errors import Unavailable, UnknownName, UsageError
from pytest_perfq.tasks import _hub, _models

ARCHITECTURES = ["bert", "distilbert", "electra", "minilm"]


@pytest.fixture(scope="module")
def sentiment(loaded, resources, tmp_path_factory):
    """A folder with a tiny sentiment model, and the model."""
    _, model = loaded(case_of("text-classification"))
    folder = tmp_path_factory.mktemp("model") / "sentiment"
    model.module.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder, model


def load(task, source, resources):
    return registry.load("task", task).load_model(case_of(task, model=str(source)), resources)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_evaluates(loaded, resources, name):
    case = case_of("text-classification", model=f"synthetic:{name}", samples=16)
    task, model = loaded(case)
    assert model.inputs == (("input_ids", "attention_mask") if name == "distilbert" else
                            ("input_ids", "attention_mask", "token_type_ids"))  # fmt: skip
    assert model.max_positions == 512
    assert model.vocab_size == len(model.tokenizer) == model.module.get_input_embeddings().weight.shape[0]
    assert model.bytes == sum(value.nbytes for value in model.module.state_dict().values() if value.is_floating_point())
    assert not model.module.training
    assert model.config._attn_implementation == "eager"
    outcomes = task.evaluate(case, model, task.examples(case, "validation", resources), predict_of(model), 8)
    assert set(outcomes.predictions) <= {"negative", "positive"}


def test_a_folder_gives_the_same_model(sentiment, resources):
    folder, model = sentiment
    again = load("text-classification", folder, resources)
    assert again.key == model.key
    ids = torch.tensor([[2, 20, 21, 3]])
    with torch.no_grad():
        assert torch.equal(again.module(input_ids=ids).logits, model.module(input_ids=ids).logits)


def test_another_weight_gives_another_key(sentiment, resources):
    folder, model = sentiment
    changed = load("text-classification", folder, resources)
    with torch.no_grad():
        changed.module.classifier.bias[0] += 1e-3
    assert _models.content_key(changed.module) != model.key


def test_a_package_ships_a_model(sentiment, resources, tmp_path, monkeypatch):
    folder, model = sentiment
    package = tmp_path / "shipping_models"
    shutil.copytree(folder, package / "inner")
    (package / "__init__.py").write_text("raise RuntimeError('a package that ships weights need not be run')")
    monkeypatch.syspath_prepend(tmp_path)
    assert load("text-classification", "package:shipping_models/inner", resources).key == model.key
    with pytest.raises(UsageError, match=r"package 'shipping_models' ships no folder 'outer'; it has __init__.py, inner"):
        load("text-classification", "package:shipping_models/outer", resources)


def test_a_package_that_is_not_installed(resources):
    with pytest.raises(Unavailable, match=r"needs the package 'no_such_package', which is not installed; install it with pip"):
        load("text-classification", "package:no_such_package/model", resources)


def test_a_head_of_another_task(sentiment, resources):
    folder, _ = sentiment
    with pytest.raises(
        UsageError,
        match=r"is a BertForSequenceClassification, but task question-answering needs a BertForQuestionAnswering; "
        "name a model with that head, or have one trained here: 'finetuned:",
    ):
        load("question-answering", folder, resources)


def test_a_head_without_its_weights(sentiment, resources, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(sentiment[0], tmp_path / "headless")
    values = {name: value for name, value in load_file(folder / "model.safetensors").items() if "classifier" not in name}
    save_file(values, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"has no weights for classifier\.bias, classifier\.weight"):
        load("text-classification", folder, resources)


def test_torn_weights_are_one_sentence(sentiment, resources, tmp_path):
    folder = shutil.copytree(sentiment[0], tmp_path / "torn")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(
        UsageError, match=r"torn' has weights that cannot be read, .*model\.safetensors: .*; copy or save them again$"
    ):
        load("text-classification", folder, resources)


def test_pickle_files_load_only_when_allowed(sentiment, resources, tmp_path):
    folder = shutil.copytree(sentiment[0], tmp_path / "pickled")
    torch.save(sentiment[1].module.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"no safetensors weights \(pickle files: pytorch_model.bin\).*--perf-allow-pickle"):
        load("text-classification", folder, resources)
    assert load("text-classification", folder, Resources(cache=resources.cache, pickle=True)).key == sentiment[1].key


def test_code_that_comes_with_a_model_is_not_run(sentiment, resources, tmp_path):
    folder = shutil.copytree(sentiment[0], tmp_path / "own_code")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "homemade", "auto_map": {"AutoConfig": "homemade.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "homemade.py").write_text("raise RuntimeError('this must not run')")
    with pytest.raises(UsageError, match=r"models whose architecture needs their own code are not run"):
        load("text-classification", folder, resources)


def test_a_folder_that_is_not_there(resources):
    with pytest.raises(UsageError, match=r"model folder './no/such/model' does not exist; give a folder with config.json"):
        load("text-classification", "./no/such/model", resources)


def test_labels_that_are_not_the_data_sets(sentiment, resources, tmp_path):
    folder = shutil.copytree(sentiment[0], tmp_path / "renamed")
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0, "dog": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    task, model = registry.load("task", "text-classification"), load("text-classification", folder, resources)
    case = case_of("text-classification")
    with pytest.raises(
        UsageError, match=r"has the classes cat, dog, but synthetic:sst2 has negative, positive; choose a model"
    ):
        task.evaluate(case, model, task.examples(case, "validation", resources), predict_of(model), 8)


def test_labels_in_another_order_are_matched_by_name(sentiment, resources, tmp_path):
    folder = shutil.copytree(sentiment[0], tmp_path / "swapped")
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": {"0": "POSITIVE", "1": "NEGATIVE"}, "label2id": {"POSITIVE": 0, "NEGATIVE": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    case = case_of("text-classification", samples=50)
    task, swapped = registry.load("task", "text-classification"), load("text-classification", folder, resources)
    examples = task.examples(case, "validation", resources)
    straight = task.evaluate(case, sentiment[1], examples, predict_of(sentiment[1]), 8)
    turned = task.evaluate(case, swapped, examples, predict_of(swapped), 8)
    assert np.array_equal(1 - np.array(straight.right), turned.right)


def test_tags_that_the_model_does_not_know(loaded, resources):
    case = case_of("token-classification")
    task, model = loaded(case)
    import dataclasses

    examples = dataclasses.replace(task.examples(case, "validation", resources), labels=("O", "B-GENE"))
    with pytest.raises(UsageError, match=r"but synthetic:conll2003 has B-GENE; choose a model trained on these labels"):
        task.evaluate(case, model, examples, predict_of(model), 8)


def test_an_unknown_synthetic_model(resources):
    with pytest.raises(UnknownName, match=r"unknown synthetic model 'brt'; did you mean 'bert'\?"):
        load("text-classification", "synthetic:brt", resources)


def test_a_synthetic_model_on_real_data(resources):
    case = case_of("text-classification", dataset="glue-sst2")
    with pytest.raises(UsageError, match=r"'synthetic:bert' knows the words of synthetic data sets only.*'glue-sst2'"):
        registry.load("task", "text-classification").load_model(case, resources)


def test_the_hub_out_of_reach(resources, monkeypatch, tmp_path):
    monkeypatch.setattr(_hub, "reachable", lambda: False)
    with pytest.raises(
        Unavailable, match=r"^model 'nobody/nothing' cannot be fetched: the hub is out of reach and its cache here lacks it$"
    ):
        load("question-answering", "nobody/nothing", resources)
    with pytest.raises(UsageError, match=r"^model 'no one' is neither here nor a name that the hub could have: "):
        load("question-answering", "no one", resources)


def test_the_hub_is_asked_once_and_not_for_long(monkeypatch):
    import time

    import huggingface_hub

    asked = []

    class Session:
        def head(self, url, timeout):
            asked.append(url)
            time.sleep(20)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    _hub.reachable.cache_clear()
    try:
        start_s = time.monotonic()
        assert [_hub.reachable() for _ in range(50)] == [False] * 50
        # Hanging once would be 20 s, for every look-up 1000 s; a busy machine may double what the probe waits.
        assert time.monotonic() - start_s < 15
        assert asked == [huggingface_hub.constants.ENDPOINT]
    finally:
        _hub.reachable.cache_clear()
