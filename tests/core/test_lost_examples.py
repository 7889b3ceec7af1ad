"""One example of 1,000 goes wrong and nothing else moves: always told, by its id, and never where nothing went wrong."""

from lost_examples import found


def test_a_lost_example_is_always_found_and_an_unchanged_run_never_accused():
    assert found(seed=1) == (1.0, 0.0)
