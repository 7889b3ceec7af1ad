"""A model whose tokenizer is not there reads unknown words only, as its original does: refused before anything is measured."""

import json
import re
import shutil

import pytest
import transformers
from tiny_tasks import case_of

from pytest_perfq import registry
from pytest_perfq.errors import UsageError
from pytest_perfq.tasks import _hub

TASK = "text-classification"


@pytest.fixture(scope="module")
def whole(loaded, tmp_path_factory):
    """A folder with a tiny model and its tokenizer."""
    _, model = loaded(case_of(TASK))
    folder = tmp_path_factory.mktemp("model") / "whole"
    model.module.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def bare(whole, tmp_path):
    """The same without the tokenizer: what the model's save_pretrained alone leaves."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(whole / name, folder)
    return folder


def load(source, resources):
    return registry.load("task", TASK).load_model(case_of(TASK, model=str(source)), resources)


def test_a_folder_without_a_tokenizer(bare, resources):
    # What the refusal is for: transformers reads the folder all the same, and every word is the unknown one.
    made = transformers.AutoTokenizer.from_pretrained(bare)
    assert set(made("a fine film", add_special_tokens=False).input_ids) == {made.unk_token_id}
    with pytest.raises(UsageError) as error:
        load(bare, resources)
    assert str(error.value) == (
        f"model '{bare}' has no tokenizer: {bare} holds config.json, model.safetensors, and neither tokenizer.json nor a "
        f"vocabulary; save the model's own beside it with tokenizer.save_pretrained('{bare}')"
    )


def test_settings_alone_are_no_tokenizer(whole, bare, resources):
    shutil.copy(whole / "tokenizer_config.json", bare)
    with pytest.raises(
        UsageError, match=r"has no tokenizer: .* holds config.json, model.safetensors, tokenizer_config.json, and"
    ):
        load(bare, resources)


def test_what_is_fine_tuned_needs_one_too(bare, resources):
    with pytest.raises(UsageError, match=re.escape(f"model '{bare}' has no tokenizer: ")):
        load(f"finetuned:{bare}", resources)


def test_a_package_without_a_tokenizer(bare, resources, tmp_path, monkeypatch):
    package = tmp_path / "shipping_no_tokenizer"
    shutil.copytree(bare, package / "inner")
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"^model 'package:shipping_no_tokenizer/inner' has no tokenizer: "):
        load("package:shipping_no_tokenizer/inner", resources)


def test_a_hub_id_without_a_tokenizer(bare, resources, tmp_path, monkeypatch):
    snapshot = shutil.copytree(bare, tmp_path / ("0123456789" * 4))
    monkeypatch.setattr(_hub, "folder", lambda name, pickle: snapshot)
    with pytest.raises(
        UsageError, match=r"^model 'owner/name' has no tokenizer: .*; save the model and its tokenizer to one folder"
    ):
        load("owner/name", resources)


def test_words_of_another_kind_of_tokenizer(whole, bare, resources):
    """A BERT's vocab.txt under a tokenizer that reads vocab.json and merges.txt."""
    vocabulary = transformers.AutoTokenizer.from_pretrained(whole).get_vocab()
    (bare / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    assert load(bare, resources).tokenizer.get_vocab() == vocabulary
    (bare / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    with pytest.raises(
        UsageError,
        match=r"knows no words: its class RobertaTokenizer reads vocab.json or merges.txt or tokenizer.json, and .* holds vocab.txt;",
    ):
        load(bare, resources)


@pytest.mark.parametrize("content", ['{"version": "1.0", "tru', '{"version": "1.0"}'])
def test_a_tokenizer_that_was_not_copied_whole(bare, resources, content):
    (bare / "tokenizer.json").write_text(content)
    with pytest.raises(UsageError, match=rf"^the tokenizer of model '{bare}' \(tokenizer.json in {bare}\) cannot be read: ."):
        load(bare, resources)
