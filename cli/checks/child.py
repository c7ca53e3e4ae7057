"""One check in a process of its own: `python -m randscene.cli.checks.child NAME OPTIONS`; prints a Finding as JSON."""

import dataclasses
import json
import os
import sys

from randscene.cli.checks.catalogue import Check, by_name, function_of
from randscene.cli.checks.finding import Finding, Options, absent, failed
from randscene.errors import RandsceneError, first_line
from randscene.extras import install_command


def main() -> None:
    """Run the check that the command line names."""
    # What libraries print must not end in the answer.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    check, options = by_name(sys.argv[1]), Options(**json.loads(sys.argv[2]))
    json.dump(dataclasses.asdict(outcome(check, options)), answer)
    answer.flush()
    sys.stderr.flush()
    # Exit handlers of broken libraries can hang or crash.
    os._exit(0)


def outcome(check: Check, options: Options) -> Finding:
    """What the check found; whatever it raises becomes a line."""
    try:
        return function_of(check)(options)
    except ModuleNotFoundError as error:
        name = (error.name or str(error)).partition(".")[0]
        if name == "randscene" or check.use is None:
            cure = f"reinstall: {install_command(again=True)}"
            return failed(f"the module {error.name} is missing", cure, optional=check.optional)
        return absent(f"{name} is not installed", install_command(check.use))
    except ImportError as error:
        return failed(f"cannot import: {first_line(error)}", check.cure, optional=check.optional)
    except RandsceneError as error:
        found, _, cure = first_line(error).partition("; ")
        return failed(found, cure or check.cure, optional=check.optional)
    except Exception as error:  # whatever a broken library raises is the finding
        return failed(f"{type(error).__name__}: {first_line(error)}", check.cure, optional=check.optional)


if __name__ == "__main__":
    main()
