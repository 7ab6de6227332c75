"""Turns errors into one message on stderr and an exit code; with `--json` on stdout as well.

| code | meaning |
| --- | --- |
| 0 | nothing failed |
| 1 | a gate failed, or `--strict` and no pass; every file is still written |
| 2 | wrong usage: a flag, a path, a recipe key, a data file |
| 3 | unsupported model; every offending node is named |
| 4 | environment: ONNX Runtime, device, disk, permission |
| 5 | a bug in dfqonnx; the traceback is saved, and the message names its file |
| 130, 143 | interrupted, terminated; no incomplete output is left |
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dfqonnx.cli.commands import advise_on_option
from dfqonnx.core.ranks import claims_message
from dfqonnx.errors import DfqError, UnsupportedModel, explain_missing
from dfqonnx.foreign_text import json_safe, printable_lines

USAGE, ENVIRONMENT, BUG, INTERRUPTED, TERMINATED = 2, 4, 5, 130, 143
OUT_OF_MEMORY = "out of memory; try a smaller model"
NESTED = "what was given nests too deeply to be read: a file in it is damaged or hostile"


class Interruption(BaseException):
    """A command was interrupted, and says what is kept; typer lets no KeyboardInterrupt through."""


def say_terminated(stop: BaseException, *, as_json: bool) -> int:
    """Say that a command was asked to terminate, and what is kept; return the exit code."""
    message = "; ".join(["terminated; no partial file is left", *notes_of(stop)])
    return _print_error(TERMINATED, message, as_json=as_json)


def guard(command: Callable[[], Any], *, as_json: bool) -> int:
    """Run `command` and return the exit code; any error becomes one message on stderr."""
    kept = "interrupted; no partial file is left"
    try:
        code = command()
    except DfqError as error:
        details: dict[str, Any] = {"kind": type(error).__name__}
        if isinstance(error, UnsupportedModel):
            details["offenses"] = [vars(offense) for offense in error.offenses]
        message = "; ".join([error.message, *notes_of(error)])
        return _print_error(error.exit_code, message, as_json=as_json, **details)
    except (KeyboardInterrupt, Interruption) as stop:
        code, kept = INTERRUPTED, str(stop) or kept
    except OSError as error:
        return _system_error(error, as_json=as_json)
    except RecursionError:
        return _print_error(USAGE, NESTED, as_json=as_json, kind="UsageError")
    except ModuleNotFoundError as error:
        missing = explain_missing(error)
        if missing is None:
            return _usage_or_bug(error, as_json=as_json)
        return _print_error(
            ENVIRONMENT, missing.message, as_json=as_json, kind="EnvironmentProblem"
        )
    except MemoryError as error:
        message = "; ".join([OUT_OF_MEMORY, *notes_of(error)])
        return _print_error(ENVIRONMENT, message, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - any other error is a bug, and becomes a message too
        if "allocate" in str(error) and "memory" in str(error):  # the wording of torch
            return _print_error(ENVIRONMENT, OUT_OF_MEMORY, as_json=as_json)
        return _usage_or_bug(error, as_json=as_json)
    if code == INTERRUPTED:
        return _print_error(INTERRUPTED, kept, as_json=as_json)
    return code if isinstance(code, int) else 0


def notes_of(error: BaseException) -> list[str]:
    """Return what was added to an error on its way: how an interrupted run can go on."""
    return [str(note) for note in getattr(error, "__notes__", ())]


def _print_error(code: int, message: str, *, as_json: bool, **details: Any) -> int:
    if not claims_message(code):
        return code
    message = printable_lines(message)
    content = {"error": {"exit_code": code, "message": message, **details}}
    text = json_safe(json.dumps(content)) if as_json else f"Error: {message}"
    if as_json:
        with suppress(OSError):  # nobody reads the pipe any more
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
    sys.stderr.write(f"{text}\n")
    return code


def _system_error(error: OSError, *, as_json: bool) -> int:
    """Report a full disk, a missing permission or a closed pipe, without a traceback."""
    if error.errno == errno.EPIPE:  # nobody reads the pipe any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    what = f"{error.filename}: " if error.filename else ""
    advice = "; free some space or choose another --out" if error.errno == errno.ENOSPC else ""
    message = "; ".join([f"{what}{error.strerror or error}{advice}", *notes_of(error)])
    return _print_error(ENVIRONMENT, message, as_json=as_json, kind="OSError")


def _usage_or_bug(error: Exception, *, as_json: bool) -> int:
    """Report a usage error in typer's own words; anything else is a bug."""
    format_message = getattr(error, "format_message", None)
    if callable(format_message):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "dfqonnx"
        message = _say_plainly(str(format_message()).rstrip("."))
        advice = advise_on_option(str(getattr(error, "option_name", "")))
        if advice:
            message = re.sub(r" \(Possible options: [^)]*\)", "", message) + advice
        return _print_error(
            USAGE, f"{message}. See '{path} --help'.", as_json=as_json, kind="UsageError"
        )
    handle, name = tempfile.mkstemp(prefix="dfqonnx-bug-", suffix=".txt")
    os.close(handle)
    Path(name).write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    message = (
        f"this is a bug in dfqonnx ({type(error).__name__}: {error}). The traceback is in {name}; "
        "please report it together with the command."
    )
    return _print_error(BUG, message, as_json=as_json, kind="Bug", traceback=name)


def _say_plainly(message: str) -> str:
    """Return a message of the parser without the words of the library that it checks values by."""
    message = message.replace(": Value error, ", ": ")
    kinds = {"integer": "a whole number", "number": "a number", "boolean": "yes or no"}
    found = re.search(r"Input should be (?:a|an) valid (\w+)", message)
    if found is not None:
        message = message[: found.start()] + f"expected {kinds.get(found[1], found[1])}"
    return message.replace("Invalid value for ", "")
