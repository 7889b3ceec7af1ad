"""Fine-tuning: cached by content, deterministic, and the loop's arithmetic."""

import dataclasses

import pytest
import torch
from tiny_tasks import case_of, predict_of

from pytest_perfq import registry
from pytest_perfq.tasks import _finetuned
from pytest_perfq.training import loop
from pytest_perfq.training.loop import Recipe

QUICK = Recipe(epochs=1, batch_size=16, learning_rate=1e-3, max_length=32)


@pytest.fixture
def base(loaded, tmp_path):
    """A folder with an encoder whose head is of another task: what fine-tuning starts from."""
    _, model = loaded(case_of("text-classification"))
    model.module.save_pretrained(tmp_path / "encoder")
    model.tokenizer.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(_finetuned, "recipe_for", lambda task, dataset: QUICK)


def tune(base, resources, task="token-classification"):
    case = case_of(task, model=f"finetuned:{base}")
    return registry.load("task", task).load_model(case, resources)


def test_an_encoder_gets_the_head_and_the_labels_of_the_data_set(base, resources):
    model = tune(base, resources)
    assert type(model.module).__name__ == "BertForTokenClassification"
    task, case = registry.load("task", "token-classification"), case_of("token-classification", samples=20)
    examples = task.examples(case, "validation", resources)
    assert tuple(model.config.id2label.values()) == examples.labels
    assert len(task.evaluate(case, model, examples, predict_of(model), 8).ids) == 20


def test_equal_content_is_trained_once_and_to_equal_bits(base, resources, tmp_path):
    lines = []
    first = tune(base, dataclasses.replace(resources, cache=tmp_path / "one", progress=lines.append))
    assert any(line.startswith("fine-tuning") for line in lines)
    lines.clear()
    again = tune(base, dataclasses.replace(resources, cache=tmp_path / "one", progress=lines.append))
    apart = tune(base, dataclasses.replace(resources, cache=tmp_path / "two"))
    assert lines == []
    assert first.key == again.key == apart.key


def test_recipes_go_by_data_set_then_by_task(monkeypatch):
    monkeypatch.undo()
    recipes = _finetuned.RECIPES
    assert _finetuned.recipe_for("text-classification", "glue-mrpc") is recipes["text-classification/mrpc"]
    assert _finetuned.recipe_for("text-classification", "glue/sst2") is recipes["text-classification"]
    assert _finetuned.recipe_for("token-classification", "conll2003") is recipes["token-classification"]


def test_every_epoch_sees_every_row_once():
    generator = torch.Generator().manual_seed(0)
    lengths = [1 + index * 7 % 50 for index in range(333)]
    first, second = loop.order(lengths, 8, generator), loop.order(lengths, 8, generator)
    assert sorted(index for batch in first for index in batch) == list(range(333))
    assert first != second
    spread = max(max(lengths[index] for index in batch) - min(lengths[index] for index in batch) for batch in first)
    assert spread < 30  # like lengths go together; a random batch of 8 spans nearly all of 1 to 50


def test_the_rate_warms_up_and_decays_to_nothing():
    seen = []

    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1, 1))

        def forward(self, input_ids, labels):
            class Output:
                loss = ((input_ids.float() * self.weight).sum(dim=1) - labels).square().mean()

            return Output

    rows = [{"input_ids": [1], "labels": 1}] * 100
    recipe = Recipe(epochs=2, batch_size=10, learning_rate=0.1, max_length=8, weight_decay=0.0)
    step = torch.optim.AdamW.step

    class Seen(torch.optim.AdamW):
        def step(self, *args, **options):
            seen.append(self.param_groups[0]["lr"])
            return step(self, *args, **options)

    line = Line()
    with pytest.MonkeyPatch.context() as patch, loop.settled(recipe):
        patch.setattr(torch.optim, "AdamW", Seen)
        loop.train(line, rows, recipe, progress=lambda text: None, what="a line")
    assert seen == pytest.approx([0.05, 0.1, *[0.1 * (20 - step) / 18 for step in range(2, 20)]])
    assert 0.5 < line.weight.item() < 1.3  # the answer is 1
    assert not line.training


def test_threads_and_dice_are_as_before():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with loop.settled(dataclasses.replace(QUICK, threads=1, seed=5)):
        assert torch.get_num_threads() == 1
        assert torch.initial_seed() == 5
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
