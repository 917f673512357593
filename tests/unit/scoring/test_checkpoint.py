"""What a run leaves behind whenever it ends, and what the next one makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from falcon_wsgi.errors import OutputRefused, RunChanged
from falcon_wsgi.scoring.checkpoint import Files, ResumableSink
from falcon_wsgi.scoring.chunk import Chunk, Part, Position

IDENTITY = {"input": {"size": 1}, "--batch-rows": 10}


def chunk(number: int) -> Chunk:
    return Chunk(
        Position(number * 10, number, number), Position(number * 10 + 10, number + 1, number + 1), b"", 0
    )


def part(number: int) -> Part:
    return Part(
        rows=1, rejected=number % 2, body=b"row %d\n" % number, footer=b"", rejects=b"bad\n" * (number % 2)
    )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "out.csv", tmp_path / "bad.jsonl")


@pytest.fixture
def begin(files: Files) -> Callable[..., ResumableSink]:
    def start(
        identity: dict[str, object] = IDENTITY, *, restart: bool = False, keep: bool = True
    ) -> ResumableSink:
        return ResumableSink(files, identity, b"head\n", restart=restart, keep=keep)

    return start


def written(sink: ResumableSink, numbers: range) -> None:
    for number in numbers:
        sink.append(chunk(number), part(number))


def finished(sink: ResumableSink) -> None:
    sink.finish(1.0, lambda _: b"tail\n")
    sink.close()


WHOLE = b"head\n" + b"".join(b"row %d\n" % n for n in range(4)) + b"tail\n"


def test_a_run_without_interruption_leaves_output_and_rejects_only(
    files: Files, begin: Callable[..., ResumableSink]
) -> None:
    sink = begin()
    written(sink, range(4))
    finished(sink)
    assert files.output.read_bytes() == WHOLE
    assert files.rejects.read_bytes() == b"bad\n" * 2
    assert {path.name for path in files.output.parent.iterdir()} == {"out.csv", "bad.jsonl"}


def test_rows_after_the_last_commit_are_cut_off_and_written_again(
    files: Files, begin: Callable[..., ResumableSink]
) -> None:
    sink = begin()
    written(sink, range(2))
    sink.commit(1.0)
    written(sink, range(2, 4))
    sink.close()
    assert b"row 3" in files.partial.read_bytes()
    again = begin()
    assert again.at.position == Position(20, 2, 2)
    assert (again.at.rows, again.at.rejected) == (2, 1)
    written(again, range(2, 4))
    finished(again)
    assert files.output.read_bytes() == WHOLE
    assert files.rejects.read_bytes() == b"bad\n" * 2


def test_no_rejects_leave_no_reject_file(files: Files, begin: Callable[..., ResumableSink]) -> None:
    finished(begin())
    assert not files.rejects.exists()


@pytest.mark.parametrize("step", ["rejects renamed", "output renamed", "footers gone"])
def test_a_kill_between_the_last_steps_is_made_good(
    files: Files, begin: Callable[..., ResumableSink], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    broken = {"rejects renamed": files.partial, "output renamed": files.footers, "footers gone": files.state}[
        step
    ]
    former = {name: getattr(Path, name) for name in ("replace", "unlink")}

    def dying(name: str) -> Callable[..., None]:
        def act(path: Path, *args: object, **options: object) -> None:
            if path == broken:
                raise Killed
            former[name](path, *args, **options)

        return act

    sink = begin()
    written(sink, range(4))
    with monkeypatch.context() as patch:
        for name in former:
            patch.setattr(Path, name, dying(name))
        with pytest.raises(Killed):
            sink.finish(1.0, lambda _: b"tail\n")
    sink.close()
    again = begin()
    assert again.at.complete
    finished(again)
    assert files.output.read_bytes() == WHOLE
    assert files.rejects.read_bytes() == b"bad\n" * 2
    assert len(list(files.output.parent.iterdir())) == 2


def test_another_input_or_option_is_refused_by_name(
    files: Files, begin: Callable[..., ResumableSink]
) -> None:
    begin().close()
    with pytest.raises(RunChanged, match=r"another input; .*--restart"):
        begin({**IDENTITY, "input": {"size": 2}})
    with pytest.raises(RunChanged, match="another --batch-rows"):
        begin({**IDENTITY, "--batch-rows": 11})


def test_restart_begins_anew_and_keeps_the_old_output_until_the_new_is_whole(
    files: Files, begin: Callable[..., ResumableSink]
) -> None:
    files.output.write_bytes(b"old")
    files.rejects.write_bytes(b"old")
    with pytest.raises(OutputRefused, match="is there already; --restart replaces it"):
        begin()
    sink = begin(restart=True)
    assert files.output.read_bytes() == b"old"
    finished(sink)
    assert files.output.read_bytes() == b"head\ntail\n"
    assert not files.rejects.exists()


def test_two_runs_cannot_write_one_output(begin: Callable[..., ResumableSink]) -> None:
    first = begin()
    with pytest.raises(OutputRefused, match="another run is writing"):
        begin()
    first.close()


def test_a_state_that_cannot_be_read_is_refused(files: Files, begin: Callable[..., ResumableSink]) -> None:
    begin().close()
    files.state.write_text("{")
    with pytest.raises(RunChanged, match="cannot be read; --restart begins anew"):
        begin()


def test_a_partial_file_shorter_than_recorded_is_refused(
    files: Files, begin: Callable[..., ResumableSink]
) -> None:
    sink = begin()
    written(sink, range(2))
    sink.commit(1.0)
    sink.close()
    files.partial.write_bytes(b"head\n")
    with pytest.raises(RunChanged, match="shorter than was recorded"):
        begin()


def test_a_run_that_cannot_be_resumed_leaves_nothing(
    files: Files, begin: Callable[..., ResumableSink]
) -> None:
    sink = begin(keep=False)
    written(sink, range(2))
    sink.close()
    assert list(files.output.parent.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputRefused, match=r"the folder .* is not there"):
        Files(tmp_path / "no" / "out.csv", tmp_path / "bad").check(IDENTITY, restart=False)
    with pytest.raises(OutputRefused, match="is a folder"):
        Files(tmp_path, tmp_path / "bad").check(IDENTITY, restart=True)


def test_the_state_holds_positions_and_no_rows(files: Files, begin: Callable[..., ResumableSink]) -> None:
    sink = begin()
    written(sink, range(3))
    sink.commit(2.5)
    sink.close()
    state = json.loads(files.state.read_bytes())
    assert state["run"] == IDENTITY
    assert state["progress"]["position"] == {"offset": 30, "row": 3, "line": 3}
    assert state["progress"]["seconds"] == 2.5
