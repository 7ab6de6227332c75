"""Errors on their way out: one message on stderr, and the exit code.

| code | meaning |
| --- | --- |
| 0 | pass |
| 1 | a gate failed; everything is still written |
| 2 | usage: a flag, a path, a recipe key, a data file |
| 3 | unsupported model; every offending node is named |
| 4 | environment: ONNX Runtime, device, disk, permission |
| 5 | a bug of ours; the traceback is saved and its place named |
| 130, 143 | interrupted, terminated; nothing is left under a final name |
"""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dfqonnx.errors import DfqError, UnsupportedModel

USAGE, ENVIRONMENT, BUG, INTERRUPTED = 2, 4, 5, 130


def guard(command: Callable[[], Any], *, as_json: bool) -> int:
    """Run `command` and return the exit code; whatever went wrong is one message on stderr."""
    try:
        code = command()
    except DfqError as error:
        return _tell(error.exit_code, str(error), as_json=as_json, **_details(error))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        return _system(error, as_json=as_json)
    except MemoryError:
        return _tell(ENVIRONMENT, "out of memory; try a smaller model", as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last line: a bug becomes a message
        if "allocate" in str(error) and "memory" in str(error):  # torch says it so
            return _tell(ENVIRONMENT, "out of memory; try a smaller model", as_json=as_json)
        return _usage_or_bug(error, as_json=as_json)
    if code == INTERRUPTED:
        return _tell(INTERRUPTED, "interrupted; no partial file is left", as_json=as_json)
    return code if isinstance(code, int) else 0


def _tell(code: int, message: str, *, as_json: bool, **details: Any) -> int:
    if as_json:
        text = json.dumps({"error": {"exit_code": code, "message": message, **details}})
    else:
        text = f"Error: {message}"
    sys.stderr.write(text + "\n")
    return code


def _details(error: DfqError) -> dict[str, Any]:
    details: dict[str, Any] = {"kind": type(error).__name__}
    if isinstance(error, UnsupportedModel):
        details["offenses"] = [vars(offense) for offense in error.offenses]
    return details


def _system(error: OSError, *, as_json: bool) -> int:
    """A disk, a permission, a closed pipe: not ours, so no traceback."""
    if error.errno == errno.EPIPE:  # the reader of a pipe went away: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    what = f"{error.filename}: " if error.filename else ""
    advice = "; free some space or choose another --out" if error.errno == errno.ENOSPC else ""
    return _tell(
        ENVIRONMENT, f"{what}{error.strerror or error}{advice}", as_json=as_json, kind="OSError"
    )


def _usage_or_bug(error: Exception, *, as_json: bool) -> int:
    """Typer's own usage errors know how to word themselves; anything else is a bug."""
    word = getattr(error, "format_message", None)
    if callable(word):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "dfqonnx"
        message = str(word()).rstrip(".")
        return _tell(USAGE, f"{message}. See '{path} --help'.", as_json=as_json, kind="UsageError")
    handle, name = tempfile.mkstemp(prefix="dfqonnx-bug-", suffix=".txt")
    os.close(handle)
    Path(name).write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    message = (
        f"a bug in dfqonnx, sorry ({type(error).__name__}: {error}). The traceback is in {name}; "
        "please report it together with the command."
    )
    return _tell(BUG, message, as_json=as_json, kind="Bug", traceback=name)
