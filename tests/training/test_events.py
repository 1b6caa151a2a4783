import io

import pytest
from rich.console import Console
from small_training import learn, network

from pellucid.training.events import Event, duration, line, progress


def test_events_of_a_training():
    """Start, each step, each epoch, end; steps count over the whole training."""
    events = []
    learn(network(), on_event=events.append, show_every=0.0)
    kinds = [event.kind for event in events]
    assert kinds == ["start", *(["step"] * 7 + ["epoch"]) * 4, "end"]
    steps = [event.step for event in events if event.kind == "step"]
    assert steps == list(range(1, 29))
    assert all((event.epochs, event.steps) == (4, 28) for event in events)
    assert [event.epoch for event in events if event.kind == "epoch"] == [1, 2, 3, 4]
    last = events[-2]
    assert set(last.metrics) == {"loss", "accuracy"}
    assert last.samples_per_second > 0
    assert last.seconds_left == 0


def test_step_loss_is_the_mean_since_the_last_event():
    """The losses of an epoch's steps, weighted by their rows, give the epoch's loss."""
    events = []
    learn(network(), on_event=events.append, show_every=0.0, epochs=1)
    losses = [event.loss for event in events if event.kind == "step"]
    rows = [32] * 6 + [18]
    epoch = next(event.loss for event in events if event.kind == "epoch")
    assert sum(loss * n for loss, n in zip(losses, rows)) / sum(rows) == pytest.approx(epoch, abs=1e-9)


def test_steps_are_told_rarely():
    events = []
    learn(network(), on_event=events.append, show_every=60.0)
    assert [event.kind for event in events] == ["start", *["epoch"] * 4, "end"]


def test_line_and_duration():
    event = Event("epoch", 2, 10, 94, 470, 0.51234, {"accuracy": 0.8712}, 12345.6, 185.2)
    assert line(event) == "epoch 2/10  train loss 0.5123  accuracy 0.8712  12,346 samples/s  3:05 min left"
    assert [duration(s) for s in (0.4, 59, 3720)] == ["0 s", "59 s", "1:02 h"]


def test_progress_without_a_terminal_is_a_line_per_epoch():
    out = io.StringIO()
    learn(network(), on_event=progress(Console(file=out, soft_wrap=True)), show_every=0.0)
    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("epoch 1/4  train loss ")
    assert "accuracy 0." in lines[0]
    assert "samples/s" in lines[0]
    assert lines[3].endswith("0 s left")


def test_progress_in_a_terminal_shows_a_bar_and_cleans_up():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160, legacy_windows=False)
    show = progress(console)
    show(Event("start", 1, 2, 0, 10))
    show(Event("step", 1, 2, 4, 10, 0.75, {"accuracy": 0.5}, 1000.0, 6.0))
    show(Event("end", 1, 2, 4, 10, message="Interrupted after step 4 of 10, not saved."))
    text = out.getvalue()
    assert "train loss 0.75" in text
    assert "1,000 samples/s" in text
    assert "6 s left" in text
    assert "Interrupted after step 4" in text
    assert text.rindex("\x1b[?25h") > text.index("\x1b[?25l")  # the cursor is back


def test_end_is_sent_after_an_error_too():
    kinds = []

    def listen(event):
        kinds.append(event.kind)
        if event.kind == "step":
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        learn(network(), on_event=listen, show_every=0.0)
    assert kinds == ["start", "step", "end"]
