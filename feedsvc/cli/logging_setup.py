"""The log on stderr: a line for each record, in UTC, and a traceback on the lines after it."""

import logging
import re
import sys
from datetime import UTC, datetime

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class LineFormatter(logging.Formatter):
    """The format of a record: ISO time, level, short name of the logger, message.

    No message can look like another record, or send commands to a terminal: control characters are
    escaped, and the lines of a traceback begin with spaces.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line, and the lines of its traceback if it has one."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        logger = record.name
        if logger.startswith("feedsvc."):
            logger = logger.rpartition(".")[2]
        message = _one_line(record.getMessage())
        lines = [f"{time.replace('+00:00', 'Z')} {record.levelname} {logger}: {message}"]
        if record.exc_info:
            traceback = self.formatException(record.exc_info)
            lines += (f"  {_one_line(line)}" for line in traceback.split("\n"))
        return "\n".join(lines)


def _one_line(text: str) -> str:
    return _CONTROL_CHARACTER.sub(
        lambda character: character.group().encode("unicode_escape").decode(), text
    )


def log_to_stderr(level: str) -> None:
    """Send log messages of ``level`` and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
