"""The command `perfq`: what can be asked of stored runs and baselines without running pytest.

One sentence on standard error and exit status 3 for anything asked wrongly; no traceback for what is somebody's to mend.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `perfq` and exits with its status: 0, 1, 2 as the command says, 3 for usage and data errors."""
    import click

    from pytest_perfq.cli.commands import perfq
    from pytest_perfq.errors import PerfqError

    try:
        status = perfq.main(args=None if arguments is None else list(arguments), prog_name="perfq", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        # The help itself, which is more than a sentence.
        print(error.format_message(), file=sys.stderr)
        status = 3
    except click.ClickException as error:
        print(f"perfq: {error.format_message()}", file=sys.stderr)
        status = 3
    except click.Abort:
        print("perfq: interrupted", file=sys.stderr)
        status = 130
    except PerfqError as error:
        print(f"perfq: {error}", file=sys.stderr)
        status = 3
    except BrokenPipeError:
        # Somebody read as much as they wanted: `perfq list cases | head`.
        sys.stderr.close()
        status = 0
    sys.exit(status if isinstance(status, int) else 0)
