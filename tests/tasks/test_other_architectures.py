"""Architectures that are not among the embedded ones, with random weights: loaded and evaluated like any other."""

import pytest
import transformers
from tiny_tasks import case_of, predict_of

from pytest_perfq import registry
from pytest_perfq.errors import UsageError


def saved(folder, module, tokenizer):
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_model_with_one_token_type_gets_no_token_types(loaded, resources, tmp_path):
    _, bert = loaded(case_of("question-answering"))
    config = transformers.RobertaConfig(
        vocab_size=bert.vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=130, type_vocab_size=1, pad_token_id=0,
    )  # fmt: skip
    source = saved(tmp_path / "roberta", transformers.RobertaForQuestionAnswering(config), bert.tokenizer)
    task, case = (
        registry.load("task", "question-answering"),
        case_of("question-answering[max_length=128,doc_stride=32]", model=source, samples=12),
    )
    model = task.load_model(case, resources)
    assert model.inputs == ("input_ids", "attention_mask")
    outcomes = task.evaluate(case, model, task.examples(case, "validation", resources), predict_of(model), 4)
    assert len(outcomes.predictions) == 12


def test_a_tokenizer_that_does_not_name_token_types_gives_them(loaded, resources, tmp_path):
    _, bert = loaded(case_of("text-classification"))
    source = saved(tmp_path / "bert", bert.module, bert.tokenizer)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(source)
    task, case = registry.load("task", "text-classification"), case_of("text-classification", model=source, samples=12)
    model = task.load_model(case, resources)
    examples = task.examples(case, "validation", resources)
    assert model.inputs == bert.inputs
    assert task.evaluate(case, model, examples, predict_of(model), 4) == task.evaluate(
        case, bert, examples, predict_of(bert), 4
    )


def test_an_architecture_without_the_head(loaded, resources, tmp_path):
    _, bert = loaded(case_of("text-classification"))
    config = transformers.VitsConfig()
    config.save_pretrained(tmp_path / "vits")
    bert.tokenizer.save_pretrained(tmp_path / "vits")
    with pytest.raises(UsageError, match="architecture 'vits' has no head for question-answering; use one that transformers'"):
        registry.load("task", "question-answering").load_model(
            case_of("question-answering", model=str(tmp_path / "vits")), resources
        )
