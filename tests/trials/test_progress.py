"""What a person sees while trials run: one line that rewrites itself, or now and then a plain one."""

from pytest_perfq.report.passing import Passing, line
from pytest_perfq.report.progress import CLEAR, PLAIN_EVERY_S
from pytest_perfq.trials.passes import Moment

MOMENT = Moment("confirm", 7, 3, 12, 2, "squad/bert/ort@cpu/fp32/b1/s32", 70.0)


def test_a_line_names_pass_stage_case_suspects_and_time_left():
    assert line(MOMENT) == "perfq pass 7, confirm, case 4 of 12, 2 suspects, 1m10s left: squad/bert/ort@cpu/fp32/b1/s32"
    assert line(Moment("accuracy", 0, 0, 1, 0, "a", None)) == "perfq accuracy, case 1 of 1: a"
    assert ", 1 suspect, " in line(Moment("screen", 1, 0, 1, 1, "a", 5.0))


def test_on_a_terminal_the_line_rewrites_itself_and_goes_away():
    written = []
    passing = Passing(written.append, live=True)
    passing.watch(MOMENT)
    passing.say("something to keep")
    passing.close()
    assert written[0].startswith(f"{CLEAR}perfq pass 7") and "\n" not in written[0]
    assert written[1:] == [f"{CLEAR}perfq: something to keep\n", CLEAR]


def test_in_a_log_a_plain_line_is_written_now_and_then():
    written, now = [], [0.0]
    passing = Passing(written.append, live=False, clock=lambda: now[0])
    for now[0] in (0.0, PLAIN_EVERY_S / 2, PLAIN_EVERY_S):
        passing.watch(MOMENT)
    passing.close()
    assert written == [f"{line(MOMENT)}\n"] * 2
