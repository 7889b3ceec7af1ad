"""What tasks declare before they are imported, held against what they say once they are."""

import pytest
from tiny_tasks import case_of

from pytest_perfq import registry
from pytest_perfq.errors import DataError, UnknownName, UsageError
from pytest_perfq.tasks import _declared, _synthetic, _synthetic_catalog, _synthetic_models

OURS = sorted(registry._files("tasks"))


@pytest.mark.parametrize("name", OURS)
def test_every_task_declares_its_options_and_takes_their_defaults(name):
    assert name in _declared.OPTIONS, f"give {name} a row in tasks/_declared.py, if only an empty one"
    registry.declared("task", name)(case_of(name))
    defaults = {key: option.default for key, option in _declared.OPTIONS[name].items()}
    assert registry.load("task", name).options(case_of(name)) == defaults


@pytest.mark.parametrize(
    ("name", "meant"), [("sequence-classification", "text-classification"), ("NER", "token-classification"), ("qa", OURS[0])]
)
def test_what_people_call_a_task_is_asked_back(name, meant):
    """By letters alone the first would be token-classification."""
    with pytest.raises(UnknownName, match=rf"^unknown task '{name}'; did you mean '{meant}'\? known: .*question-answering, "):
        registry.check("task", name)
    assert set(_declared.ALIASES.values()) <= set(OURS) and not set(_declared.ALIASES) & set(OURS)


def test_the_options_of_question_answering_are_the_squad_scripts():
    assert _declared.options(case_of("question-answering[n_best=5,version_2]").task) == {
        "doc_stride": 128, "max_length": 384, "max_answer_length": 30, "n_best": 5, "version_2": True,
        "null_score_diff_threshold": 0.0,
    }  # fmt: skip


def test_every_embedded_data_set_has_a_generator_and_a_recipe():
    assert set(_synthetic_catalog.TASKS) == set(_synthetic.MAKERS) == set(_synthetic_models.RECIPES)
    for name in OURS:
        first = next(dataset for dataset, task in _synthetic_catalog.TASKS.items() if task == name)
        assert registry.load("task", name).synthetic == first  # plain `synthetic`


@pytest.mark.parametrize("dataset", sorted(_synthetic_catalog.TASKS))
@pytest.mark.parametrize("name", OURS)
def test_an_embedded_data_set_is_refused_for_exactly_the_tasks_that_cannot_read_it(name, dataset, resources):
    case = case_of(f"{name}[version_2]" if dataset == "squad_v2" and name == "question-answering" else name,
                   dataset=f"synthetic:{dataset}")  # fmt: skip
    try:
        registry.load("task", name).examples(case, "validation", resources)
    except DataError:
        with pytest.raises(UsageError, match=f"is for task {_synthetic_catalog.TASKS[dataset]}, and the case's task is {name}"):
            _declared.check(case)
    else:
        _declared.check(case)


def test_sizes_are_those_of_the_generators(resources):
    for name in _synthetic_catalog.TASKS:
        assert len(_synthetic.table(f"synthetic:{name}", "validation").rows) == _synthetic_catalog.sizes(name)["validation"]


def test_loading_tells_the_same_mistakes(resources):
    task = registry.load("task", "question-answering")
    with pytest.raises(UnknownName, match=r"unknown synthetic model 'brt'; did you mean 'bert'\?"):
        task.load_model(case_of("question-answering", model="synthetic:brt"), resources)
    with pytest.raises(UsageError, match=r"knows the words of synthetic data sets only, and the data set is 'squad'"):
        task.load_model(case_of("question-answering", dataset="squad"), resources)


def test_a_task_of_another_package_has_data_of_its_own():
    _declared.check(case_of("tiny[anything=1]", dataset="synthetic:stars", model="galaxy:m31"))
