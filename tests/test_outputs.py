"""What a kernel sends is taken down as it arrives, and within a limit, whatever it is."""

import pytest

from course_utils.grading.marking.outputs import CELL_ROOM, Outputs

FAILED = {"status": "error", "ename": "ValueError", "evalue": "no", "traceback": ["no"]}
DONE = {"status": "ok"}


def message(kind, **content):
    return {"msg_type": kind, "content": content}


def stream(text):
    return message("stream", name="stdout", text=text)


def shown(text, handle=None, kind="display_data"):
    return message(kind, data={"text/plain": text}, metadata={}, transient={"display_id": handle})


def error(name="ValueError", text="no", trace=("no",)):
    return message("error", ename=name, evalue=text, traceback=list(trace))


def outcome(*messages, reply=DONE, token=None, **more):
    outputs = Outputs(token, **more)
    for one in messages:
        outputs.take(one)
    return outputs, outputs.finish(reply)


def kinds(found):
    return [out.output_type for out in found]


def test_the_guards_words_count_whatever_the_cell_clears():
    outputs, found = outcome(
        stream("token\ntoken!a patched metric\n"),
        stream("shown"),
        message("clear_output"),
        token="token",
    )
    assert outputs.guard == ["token", "token!a patched metric"]
    assert found == []


def test_clearing_takes_what_is_shown_and_neither_values_nor_errors():
    value = message("execute_result", data={"text/plain": "3.0"}, metadata={})
    _, found = outcome(stream("a"), value, message("clear_output"), stream("b"))
    assert kinds(found) == ["execute_result", "stream"]
    _, found = outcome(error(), message("clear_output"), reply=FAILED)
    assert kinds(found) == ["error"]


def test_clearing_waits_for_the_next_output_if_it_is_to():
    later = message("clear_output", wait=True)
    assert outcome(stream("a"), later)[1][0].text == "a"
    assert outcome(stream("a"), later, stream("b"))[1][0].text == "b"


def test_a_display_is_updated_by_its_handle_wherever_it_stands():
    """nbclient counts places in a list from which streams have been taken since."""
    _, found = outcome(
        stream("a"),
        shown("old", "x"),
        stream("b"),
        stream("c"),
        shown("new", "x", "update_display_data"),
        shown("none", "y", "update_display_data"),
    )
    assert [out.get("text") or out.data["text/plain"] for out in found] == ["a", "new", "bc"]


def test_a_traceback_that_is_only_shown_is_text():
    _, found = outcome(error(trace=["here"]), stream("going on"))
    assert kinds(found) == ["stream", "stream"]
    assert found[0].text == "here\n"


def test_of_several_errors_the_one_that_ended_the_cell_counts():
    _, found = outcome(error("KeyError"), error(), reply=FAILED)
    assert [out.ename for out in found if out.output_type == "error"] == ["ValueError"]


def test_an_error_that_was_not_shown_counts():
    _, found = outcome(reply=FAILED)
    assert [out.ename for out in found] == ["ValueError"]


@pytest.mark.parametrize(
    "flood",
    [
        [error("x" * 10**6, "y" * 10**6, ["z" * 10**6])] * 30,
        [stream("x" * 10**6)] * 30,
        [stream("x\n"), shown("y")] * 20_000,
        [shown("x" * 10**6)] * 30,
        [shown("x", "h"), *[shown("y" * 10**6, "h", "update_display_data")] * 30],
        [message("comm_open", comm_id="1", data={"state": {"x": "y" * 10**6}})] * 30,
        [message("display_data", data={"image/png": "x" * 10**6}, metadata={})] * 30,
    ],
    ids=["errors", "streams", "pieces", "displays", "updates", "widgets", "pictures"],
)
def test_no_cell_gives_more_than_there_is_room_for(flood):
    _, found = outcome(*flood)
    assert sum(len(str(out)) for out in found) < 1.5 * CELL_ROOM


def test_what_a_cell_may_give_ends_with_what_all_may():
    _, found = outcome(stream("x" * 1000), room=10)
    assert found[0].text == "x" * 10
    assert outcome(stream("x"), room=-5)[1] == []
    value = message("execute_result", data={"text/plain": "3.0"}, metadata={})
    assert outcome(value, room=0)[1][0].data == {"text/plain": "3.0"}  # points cost nothing
    assert outcome(error(), reply=FAILED, room=0)[1][0].evalue == "no"


def test_values_are_cut_and_never_dropped():
    long = message("execute_result", data={"text/plain": "3" * 10**6}, metadata={})
    _, found = outcome(stream("x" * CELL_ROOM), long)
    assert found[-1].data["text/plain"] == "(too long)"


@pytest.mark.parametrize("before", [error(), stream("x"), shown("x")])
def test_no_flood_keeps_a_value_from_being_counted(before):
    value = message("execute_result", data={"text/plain": "0.0"}, metadata={})
    _, found = outcome(*[before, shown("y")] * 3000, value)
    assert kinds(found)[-1] == "execute_result"


@pytest.mark.parametrize(
    "odd",
    [
        message("stream", name=[], text={"a": 1}),
        message("stream"),
        message("error", ename=["x"], evalue=None, traceback="text"),
        message("error", ename="x", evalue="y", traceback=[[1], None]),
        message("display_data", data=[1], metadata="x", transient="y"),
        message("execute_result", data={"text/plain": {"a": 1}, "image/png": 3}),
        message("update_display_data", data={}, transient={"display_id": []}),
        {"msg_type": "stream", "content": "x"},
        {"msg_type": "status"},
    ],
)
def test_what_no_kernel_would_send_harms_nobody(odd):
    import nbformat

    _, found = outcome(odd)
    cell = nbformat.v4.new_code_cell("", outputs=found)
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))
