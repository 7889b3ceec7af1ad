"""The embedded corpus and its models: deterministic, consistent, learnable but not to the end."""

import dataclasses
import multiprocessing
import random
import subprocess
import sys

import pytest
from tiny_tasks import case_of, predict_of, restore, shrink

from pytest_perfq import registry
from pytest_perfq.contracts import Resources
from pytest_perfq.tasks import _synthetic, _synthetic_models, _vocabulary

NAMES = sorted(_synthetic.MAKERS)
COLUMNS = {
    "squad": {"id", "title", "context", "question", "answers"}, "squad_v2": {"id", "title", "context", "question", "answers"},
    "conll2003": {"id", "tokens", "ner_tags"}, "sst2": {"sentence", "label", "idx"},
    "mrpc": {"sentence1", "sentence2", "label", "idx"}, "cola": {"sentence", "label", "idx"},
}  # fmt: skip
DEFAULTS = ["question-answering", "token-classification", "text-classification"]


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_is_deterministic_and_in_the_hubs_columns(name):
    made = [_synthetic.MAKERS[name](random.Random("seed"), 50, "validation") for _ in range(2)]
    assert made[0] == made[1]
    assert {frozenset(row) for row in made[0]} == {frozenset(COLUMNS[name])}
    assert len(_synthetic.table(f"synthetic:{name}", "validation").rows) >= 1000


@pytest.mark.parametrize("name", ["squad", "squad_v2"])
def test_every_answer_stands_in_its_text(name):
    rows = _synthetic.table(f"synthetic:{name}", "validation").rows
    for row in rows:
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
            assert row["context"][start : start + len(text)] == text
    bare = sum(not row["answers"]["text"] for row in rows)
    assert bare == 0 if name == "squad" else 250 < bare < 420


def test_tags_fit_tokens_and_entities_are_well_formed():
    tags = _synthetic.table("synthetic:conll2003", "validation").classes["ner_tags"]
    for row in _synthetic.table("synthetic:conll2003", "validation").rows:
        names = [tags[tag] for tag in row["ner_tags"]]
        assert len(names) == len(row["tokens"])
        for before, after in zip(["O", *names], names, strict=False):
            assert not after.startswith("I-") or before[2:] == after[2:]


@pytest.mark.parametrize("name", ["sst2", "mrpc", "cola"])
def test_classes_are_balanced(name):
    labels = [row["label"] for row in _synthetic.table(f"synthetic:{name}", "validation").rows]
    assert 400 < sum(labels) < 600


def test_a_vocabulary_spells_every_word_it_was_made_of():
    texts = ["Torwick Bank founded", "Torwick Bank sold Zandale", "Torwick Bank"]
    tokenizer = _vocabulary.tokenizer(texts, 512)
    assert tokenizer.tokenize("Torwick Bank") == ["Torwick", "Bank"]
    assert "[UNK]" not in tokenizer.tokenize("Zandale founded Bank")
    assert tokenizer.decode(tokenizer("Zandale")["input_ids"], skip_special_tokens=True) == "Zandale"
    assert tokenizer.get_vocab() == _vocabulary.tokenizer(texts, 512).get_vocab()


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def train(cache, task="text-classification"):
    solver = registry.load("task", task)
    return solver._folder(case_of(task), Resources(cache=cache))


@pytest.mark.parametrize("task", DEFAULTS)
def test_training_again_gives_the_same_bits(resources, tmp_path, task):
    one, two = train(tmp_path / "one", task), train(tmp_path / "two", task)
    assert one.name == two.name
    assert weights(one) == weights(two)
    assert (one / "tokenizer.json").read_bytes() == (two / "tokenizer.json").read_bytes()


def test_the_recipe_key_does_not_depend_on_what_was_loaded_before(resources, tmp_path):
    source = (
        "import sys; from pathlib import Path; from pytest_perfq import registry;"
        "from pytest_perfq.tasks import _synthetic_models as made;"
        "from pytest_perfq.core.case import Case; from pytest_perfq.core.spec import Spec;"
        "task = registry.load('task', 'text-classification');"
        "case = Case(task=Spec(task.name), dataset='synthetic', model='m', model_name='m', backend=Spec('eager'));"
        "key = lambda: made._recipe_key(made.MODELS['bert'], 'sst2', task, case, made.RECIPES['sst2']);"
        "before = key(); from pytest_perfq.tasks import _synthetic; print(before == key())"
    )
    assert subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout.strip() == "True"


def test_another_recipe_is_another_checkpoint(resources, tmp_path, monkeypatch):
    one = train(tmp_path)
    recipe = _synthetic_models.RECIPES["sst2"]
    monkeypatch.setitem(_synthetic_models.RECIPES, "sst2", dataclasses.replace(recipe, seed=recipe.seed + 1))
    two = train(tmp_path)
    assert one.name != two.name
    assert weights(one) != weights(two)


def _train_apart(cache, answers):
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        lines = []
        solver = registry.load("task", "text-classification")
        folder = solver._folder(case_of("text-classification"), Resources(cache=cache, progress=lines.append))
        answers.put((folder.name, sum(line.startswith("trained") for line in lines)))


def test_two_processes_at_once_train_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    both = [context.Process(target=_train_apart, args=(tmp_path, answers)) for _ in range(2)]
    for process in both:
        process.start()
    found = [answers.get(timeout=120) for _ in both]
    for process in both:
        process.join()
    assert found[0][0] == found[1][0]
    assert sorted(times for _, times in found) == [0, 1]
    assert [path.name for path in (tmp_path / "synthetic").iterdir() if path.is_dir()] == [found[0][0]]


def test_a_killed_training_leaves_nothing_behind(resources, tmp_path, monkeypatch):
    from pytest_perfq.training import loop

    def killed(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "train", killed)
        train(tmp_path)
    assert [path for path in (tmp_path / "synthetic").iterdir() if path.is_dir()] == []
    assert weights(train(tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("task", DEFAULTS)
def test_the_default_models_are_good_but_not_perfect(tmp_path_factory, monkeypatch, request, task):
    """The promise to those who quantize them: between 0.85 and 0.99, so that there is something to lose."""
    restore(monkeypatch)
    request.addfinalizer(_synthetic.table.cache_clear)
    cache = tmp_path_factory.getbasetemp().parent / "perfq-default-models"
    solver, case = registry.load("task", task), case_of(task)
    model = solver.load_model(case, Resources(cache=cache))
    examples = solver.examples(case, "validation", Resources(cache=cache))
    outcomes = solver.evaluate(case, model, examples, predict_of(model), 32)
    assert 0.85 < solver.scores(case, examples, outcomes)[0].value < 0.99
    assert len(outcomes.ids) >= 1000
    # a spread of margins: some near a change of mind, most not
    close = sum(margin < 0.5 for margin in outcomes.margins) / len(outcomes.margins)
    assert 0.005 < close < 0.5
